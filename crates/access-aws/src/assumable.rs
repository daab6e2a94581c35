//! What converge acts on for the kind `assume-role`: the one window of a request, and the two policies that it makes.
//!
//! Each request has policies of its own, so that no window cuts or extends another, and converge sees its own alone.

use access_core::converge::carry_out::{ClosableRole, OpenableRole, WindowList};
use access_core::grant::assume_role;
use access_core::{
    Account, AssumeRole, LiveSessions, LoginSeen, Principal, Request, RequestId, Window, Windows,
    time,
};
use aws_types::SdkConfig;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::policy::{Holder, Policies, Written};
use crate::table::Table;
use crate::{Error, account};

/// The window of one request, as the table has it.
pub struct OwnWindow<'a> {
    /// The table.
    pub table: &'a Table,
    /// Whose window.
    pub request: &'a Request,
    /// The earliest moment for which converge acts. A policy holds its own start, so that it is written before it, as
    /// for that start.
    pub not_before: Option<DateTime<Utc>>,
    /// The clock.
    pub now: fn() -> DateTime<Utc>,
}

impl WindowList for OwnWindow<'_> {
    type Error = Error;

    fn now(&self) -> DateTime<Utc> {
        let now = (self.now)();
        self.not_before
            .map_or(now, |not_before| now.max(not_before))
    }

    async fn windows(&self) -> Result<Windows, Error> {
        let Request { target, role, .. } = self.request;
        let mut rows = self.table.windows(target, role).await?.rows;
        rows.retain(|row| row.request_id == self.request.request_id);
        Ok(Windows {
            rows,
            closing_until: None,
        })
    }

    // Closings of other windows do not touch these policies, and one of this window is nothing to wait for.
    async fn announce_closing(&self) {}

    async fn withdraw_closing(&self) {}

    async fn mark_opened(&self, id: &RequestId) -> Result<(), Error> {
        let Request { target, role, .. } = self.request;
        self.table.mark_opened(target, role, id, (self.now)()).await
    }
}

/// Which of Latchkey's two roles in another account is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// The one that may let people in.
    Granter,
    /// The one that may not.
    Revoker,
}

/// The policies of the accounts that a request is about.
pub struct Reached {
    /// Of the account of the role; `None` where Latchkey may not change it.
    pub of_role: Option<Policies>,
    /// Of the account of the user or role that gets the policy.
    pub of_grantee: Policies,
}

/// Reaches the account of a role, if it is to be changed, and that of whoever gets the policy: `own_account` by the
/// function's own rights, `place` by the role that is assumed there. `None` if the grantee is in neither of the two, where a
/// user of the same name would be somebody else.
///
/// # Errors
/// [`Error::Policy`] if the role in the other account cannot be assumed, or none is named.
pub async fn reach(
    config: &SdkConfig,
    own_account: &str,
    place: &Account,
    (grant, grantee): (&AssumeRole, &Principal),
    hand: Hand,
) -> Result<Option<Reached>, Error> {
    let is_there = grantee.account() == place.id;
    if !is_there && grantee.account() != own_account {
        return Ok(None);
    }
    let changes_role = grant.live_sessions == LiveSessions::Denied;
    let there = if is_there || changes_role {
        Some(reach_account(config, own_account, place, hand).await?)
    } else {
        None
    };
    let of_grantee = there.as_ref().filter(|_| is_there).unwrap_or(config);
    Ok(Some(Reached {
        of_grantee: Policies::new(of_grantee),
        of_role: there.as_ref().filter(|_| changes_role).map(Policies::new),
    }))
}

/// The rights with which the roles of `place` are looked at and changed.
///
/// # Errors
/// As [`reach`].
pub async fn reach_account(
    config: &SdkConfig,
    own_account: &str,
    place: &Account,
    hand: Hand,
) -> Result<SdkConfig, Error> {
    let failed = |cause: String| Error::Policy {
        doing: format!("reach account {}", place.id),
        cause,
    };
    match &place.assume {
        Some(roles) => {
            let role = match hand {
                Hand::Granter => &roles.granter,
                Hand::Revoker => &roles.revoker,
            };
            let assumed = account::assume(config, role).await;
            assumed.map_err(|error| failed(error.to_string()))
        }
        None if place.id == own_account => Ok(config.clone()),
        None => Err(failed(
            "its document names no \"granter\" and \"revoker\"".to_owned(),
        )),
    }
}

/// The policies of one window.
pub struct AssumableRole<'a> {
    /// The request that they are named after.
    pub id: &'a RequestId,
    /// The role and how its sessions end.
    pub grant: &'a AssumeRole,
    /// Who may assume it.
    pub grantee: &'a Principal,
    /// From when to when.
    pub window: Window,
    /// Where they are.
    pub reached: &'a Reached,
    /// The clock.
    pub now: fn() -> DateTime<Utc>,
}

/// That nobody can use a window any more, as it was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// When it was read back.
    pub at: DateTime<Utc>,
    /// Whether this closing had to change anything: then IAM may need a while until it is so everywhere.
    pub has_changed: bool,
}

impl AssumableRole<'_> {
    /// The policy that lets them in, if it is there and says what one of this window says.
    async fn allowed_until(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(policy) = self.read_allow().await? else {
            return Ok(None);
        };
        let until = assume_role::allowed_until(&policy);
        Ok(until.filter(|until| self.allow(*until).as_ref() == Some(&policy)))
    }

    fn allow(&self, until: DateTime<Utc>) -> Option<Value> {
        let window = Window::new(self.window.start(), until)?;
        Some(assume_role::allow(
            self.grant,
            self.grantee,
            self.id,
            window,
        ))
    }

    async fn read_allow(&self) -> Result<Option<Value>, Error> {
        let name = assume_role::policy_name(self.id);
        let holder = Holder::of(self.grantee);
        self.reached.of_grantee.read_json(&holder, &name).await
    }

    /// From when on the role denies the sessions of this window.
    async fn denied_from(&self, of_role: &Policies) -> Result<Option<DateTime<Utc>>, Error> {
        let name = assume_role::policy_name(self.id);
        let policy = of_role.read_json(&self.privileged(), &name).await?;
        Ok(policy.and_then(|policy| assume_role::denied_from(self.id, &policy)))
    }

    fn privileged(&self) -> Holder {
        Holder::Role(self.grant.role_name().to_owned())
    }

    /// Makes the role deny the sessions of this window from `from` on. `false` if it does already.
    async fn deny(&self, of_role: &Policies, from: DateTime<Utc>) -> Result<bool, Error> {
        if self.denied_from(of_role).await? == Some(from) {
            return Ok(false);
        }
        let policy = assume_role::deny(self.id, from);
        self.write(of_role, &self.privileged(), &policy).await?;
        Ok(true)
    }

    /// What denies already from before now stays as it is: sessions that it ended stay ended.
    async fn deny_from_now(&self, of_role: &Policies) -> Result<bool, Error> {
        let from = time::round_down((self.now)()).min(self.window.end());
        match self.denied_from(of_role).await? {
            Some(denied_from) if denied_from <= from => Ok(false),
            Some(_) => self.deny(of_role, from).await,
            // It was never opened, unless the policy that lets them in is there.
            None if self.read_allow().await?.is_none() => Ok(false),
            None => self.deny(of_role, from).await,
        }
    }

    /// Writes both, that which denies first: what stands without the other lets nobody in.
    async fn give(&self, until: DateTime<Utc>) -> Result<(), Error> {
        if let Some(of_role) = &self.reached.of_role {
            self.deny(of_role, until).await?;
        }
        let Some(policy) = self.allow(until) else {
            return Ok(());
        };
        if self.read_allow().await?.as_ref() == Some(&policy) {
            return Ok(());
        }
        let holder = Holder::of(self.grantee);
        self.write(&self.reached.of_grantee, &holder, &policy).await
    }

    async fn write(
        &self,
        policies: &Policies,
        holder: &Holder,
        policy: &Value,
    ) -> Result<(), Error> {
        let name = assume_role::policy_name(self.id);
        match policies.write(holder, &name, policy).await? {
            Written::Yes => Ok(()),
            Written::TooLong => Err(Error::PoliciesTooLong(holder.to_string())),
        }
    }
}

impl ClosableRole for AssumableRole<'_> {
    type Error = Error;
    type Proof = Revoked;

    /// Deletes the policy that lets them in. If that is before the end, the role denies their sessions from now on.
    async fn close(&self) -> Result<Revoked, Error> {
        let name = assume_role::policy_name(self.id);
        let denied = match &self.reached.of_role {
            Some(of_role) => self.deny_from_now(of_role).await,
            None => Ok(false),
        };
        // Whatever became of that.
        let holder = Holder::of(self.grantee);
        let deleted = self.reached.of_grantee.delete(&holder, &name).await?;
        Ok(Revoked {
            has_changed: denied? || deleted,
            at: (self.now)(),
        })
    }

    async fn narrow(&self, until: DateTime<Utc>) -> Result<(), Error> {
        self.give(until).await
    }
}

impl OpenableRole for AssumableRole<'_> {
    async fn login(&self) -> Result<LoginSeen, Error> {
        let until = self.allowed_until().await?;
        let is_denied_after = match &self.reached.of_role {
            Some(of_role) => self.denied_from(of_role).await? == until,
            None => true,
        };
        Ok(LoginSeen {
            can_login: until.is_some() && is_denied_after,
            valid_until: until,
        })
    }

    async fn open(&self, until: DateTime<Utc>) -> Result<bool, Error> {
        self.give(until).await?;
        Ok(true)
    }

    async fn extend(&self, until: DateTime<Utc>) -> Result<(), Error> {
        // Not if somebody has taken it by hand.
        if self.read_allow().await?.is_some() {
            self.give(until).await?;
        }
        Ok(())
    }
}
