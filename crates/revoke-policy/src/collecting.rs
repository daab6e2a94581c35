//! What windows left behind: policies that nobody took away, and denials that have nothing more to deny.

use std::collections::{BTreeMap, BTreeSet};

use access_aws::Error;
use access_aws::assumable::{self, Hand};
use access_aws::catalogue::Entries;
use access_aws::policy::{Holder, Policies};
use access_contract::record::Event;
use access_contract::{ErrorName, Status};
use access_core::grant::assume_role;
use access_core::{Account, AssumeRole, LiveSessions, Request, RequestId};
use aws_types::SdkConfig;
use lambda_shell::Unit;
use serde::Serialize;

use crate::handler::Handler;

/// What a round found, for the log and the metrics.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Round {
    /// Users and roles whose policies were looked at.
    pub(crate) n_holders: u32,
    /// Policies that let somebody in outside of a window, deleted now.
    pub(crate) n_cut: u32,
    /// Policies named like Latchkey's that belong to no request of this deployment and have not expired.
    pub(crate) n_unknown: u32,
    /// Denials whose sessions have all expired, and expired policies of no request, deleted now.
    pub(crate) n_expired: u32,
    /// Users, roles and accounts that could not be looked at.
    pub(crate) n_unreachable: u32,
    /// People's users and roles that no policy can have been given to.
    pub(crate) n_out_of_reach: u32,
}

/// What a policy of a request means by now.
enum Judgement {
    /// Its window, or a session of it, may still need it.
    Keep,
    /// It gives and denies nothing any more.
    Forget,
    /// It lets somebody in, and the window of this request is not open.
    Cut(Box<Request>),
    /// It is none of this deployment's.
    Unknown,
}

impl Handler {
    /// Looks at every user and role that may have a policy of Latchkey's. One that cannot be looked at hides no other.
    ///
    /// # Errors
    /// [`Error`] if the catalogue cannot be read.
    pub(crate) async fn collect(&self) -> Result<Round, Error> {
        let mut round = Round::default();
        let mut accounts = BTreeMap::from([(self.own_account.clone(), self.config.clone())]);
        let mut privileged: BTreeMap<(String, String), AssumeRole> = BTreeMap::new();
        let Entries { entries, n_faulty } = self.catalogue.accounts().await?;
        // What a faulty document names is not looked at.
        round.n_unreachable += n_faulty;
        // Where nobody can ask for a role of an account, nobody's policies are looked at.
        if entries.is_empty() && n_faulty == 0 {
            self.report(&round);
            return Ok(round);
        }
        for entry in entries {
            self.reach(&entry.place, &mut accounts, &mut round).await;
            for policy in entry.roles {
                // Where sessions run out, Latchkey may not look at the role, and has written nothing there.
                if let Some(grant) = policy.grant.assume_role()
                    && grant.live_sessions == LiveSessions::Denied
                {
                    let key = (grant.account().to_owned(), grant.role_name().to_owned());
                    privileged.insert(key, grant.clone());
                }
            }
        }
        let people = self.catalogue.everybody().await?;
        let grantees: BTreeSet<(String, Holder)> = people
            .iter()
            .flat_map(|person| &person.principals)
            .map(|principal| (principal.account().to_owned(), Holder::of(principal)))
            .collect();
        for (account, holder) in grantees {
            if let Some(config) = accounts.get(&account) {
                let policies = Policies::new(config);
                self.collect_of(&policies, &holder, None, &mut round).await;
            }
        }
        for ((account, name), grant) in privileged {
            if let Some(config) = accounts.get(&account) {
                let policies = Policies::new(config);
                let holder = Holder::Role(name);
                self.collect_of(&policies, &holder, Some(&grant), &mut round)
                    .await;
            }
        }
        self.report(&round);
        Ok(round)
    }

    async fn reach(
        &self,
        place: &Account,
        accounts: &mut BTreeMap<String, SdkConfig>,
        round: &mut Round,
    ) {
        if accounts.contains_key(&place.id) {
            return;
        }
        let (config, own_account) = (&self.config, &self.own_account);
        match assumable::reach_account(config, own_account, place, Hand::Revoker).await {
            Ok(reached) => {
                accounts.insert(place.id.clone(), reached);
            }
            // Nothing of Latchkey's is in an account that it was given no role in.
            Err(_) if place.assume.is_none() => {}
            Err(error) => {
                tracing::error!(account = place.id, "account not looked after: {error}");
                round.n_unreachable += 1;
            }
        }
    }

    /// The policies of one user or role; with `privileged`, those with which that role denies.
    async fn collect_of(
        &self,
        policies: &Policies,
        holder: &Holder,
        privileged: Option<&AssumeRole>,
        round: &mut Round,
    ) {
        round.n_holders += 1;
        let collected = self.try_to_collect(policies, holder, privileged, round);
        match collected.await {
            Ok(()) => {}
            // Where Latchkey may not look, it may not write either: most people are given none.
            Err(Error::PolicyNotPermitted(_)) if privileged.is_none() => round.n_out_of_reach += 1,
            Err(error) => {
                tracing::error!(%holder, "policies not looked after: {error}");
                round.n_unreachable += 1;
            }
        }
    }

    async fn try_to_collect(
        &self,
        policies: &Policies,
        holder: &Holder,
        privileged: Option<&AssumeRole>,
        round: &mut Round,
    ) -> Result<(), Error> {
        for name in policies.names(holder).await?.unwrap_or_default() {
            let Some(id) = assume_role::request_of(&name) else {
                continue;
            };
            match self.judge(&id, policies, holder, privileged).await? {
                Judgement::Keep => {}
                Judgement::Forget => {
                    policies.delete(holder, &name).await?;
                    round.n_expired += 1;
                    tracing::info!(%holder, name, "a policy that has nothing more to say was deleted");
                }
                Judgement::Cut(request) => {
                    let (target, role) = (request.target.clone(), request.role.clone());
                    self.record(
                        &id,
                        Event::AccessFound {
                            target: target.clone(),
                            role: role.clone(),
                            can_login: true,
                            n_sessions: 0,
                        },
                    )
                    .await;
                    policies.delete(holder, &name).await?;
                    round.n_cut += 1;
                    tracing::error!(%holder, name, "a policy that its window left behind was deleted");
                    self.record(
                        &id,
                        Event::AccessCut {
                            target,
                            role,
                            n_sessions_ended: 0,
                        },
                    )
                    .await;
                }
                Judgement::Unknown => {
                    round.n_unknown += 1;
                    tracing::error!(%holder, name, "a policy named like Latchkey's belongs to no request of this deployment");
                }
            }
        }
        Ok(())
    }

    async fn judge(
        &self,
        id: &RequestId,
        policies: &Policies,
        holder: &Holder,
        privileged: Option<&AssumeRole>,
    ) -> Result<Judgement, Error> {
        let now = (self.now)();
        let stored = match self.table.request(id).await {
            Ok(stored) => stored,
            // Another deployment's, or somebody's. What has expired gives nothing, whosever it is; a denial is left alone.
            Err(error) if error.name() == ErrorName::RequestNotFound => {
                let name = assume_role::policy_name(id);
                let policy = policies.read_json(holder, &name).await?;
                let until = policy.as_ref().and_then(assume_role::allowed_until);
                return Ok(match until {
                    _ if privileged.is_some() => Judgement::Keep,
                    Some(until) if until <= now => Judgement::Forget,
                    _ => Judgement::Unknown,
                });
            }
            Err(error) => return Err(error),
        };
        // It is written after its window is armed: one whose request is not open is nobody's.
        if stored.status == Status::Open {
            return Ok(Judgement::Keep);
        }
        let Some(grant) = privileged else {
            return Ok(Judgement::Cut(Box::new(stored.request)));
        };
        // As long as either document lets a session last: the one of the request, or the one of today.
        let pinned = stored.request.grant.assume_role();
        let longest = pinned.into_iter().chain([grant]);
        let may_go_at = stored.closing.and_then(|closing| {
            let ends = longest.map(|grant| assume_role::deny_may_go_at(grant, closing.at));
            ends.max()
        });
        Ok(match may_go_at {
            Some(may_go_at) if now < may_go_at => Judgement::Keep,
            _ => Judgement::Forget,
        })
    }

    /// What is found is cut whether or not it can be recorded.
    async fn record(&self, id: &RequestId, event: Event) {
        if let Err(error) = self.table.record(Some(id), None, event).await {
            tracing::error!(request_id = %id, "not in the record: {error}");
        }
    }

    fn report(&self, round: &Round) {
        tracing::info!(?round, "policies looked after");
        let count = |name, n: u32| (name, Unit::Count, f64::from(n));
        lambda_shell::metrics(
            &self.deployment,
            &[
                count("CollectingRounds", 1),
                count("PoliciesLeftBehind", round.n_cut),
                count("PoliciesUnknown", round.n_unknown),
                count("PoliciesNotLookedAfter", round.n_unreachable),
            ],
            (self.now)().timestamp_millis(),
        );
    }
}
