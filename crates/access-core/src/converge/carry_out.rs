//! Converge, carried out: read the windows, make the role so, observe it, read again.
//!
//! The functions, the tests on PostgreSQL and the model of the property test run these very steps; what they act on
//! stands behind three traits. Nothing here waits, and nothing reads a clock of its own.
//!
//! # Why a closing never cuts a window that was opened meanwhile
//!
//! A closing acts on what it read. If a window is opened after that, and the closing does not know, it takes the role
//! from people who are entitled to it. So each side writes before it reads, consistently:
//!
//! - a closing announces itself ([`WindowList::announce_closing`]), and reads the windows then;
//! - an opening has armed its window, and reads the windows with the announced closings then; it takes nothing away,
//!   not even the later end of somebody else.
//!
//! Whichever reads last sees the other: the closing sees the window and leaves the role open, or the opening sees the
//! closing and waits. An announcement ends with its closing, and by itself after [`LONGEST_CLOSING`] and
//! [`LONGEST_STATEMENT`], by which time nothing of that closing can still be running.

use chrono::{DateTime, Duration, Utc};

use super::{Desired, WindowRow, desired, is_being_closed, was_closed_by_hand};
use crate::names::RequestId;

/// How long a closing that was announced may go on acting on what it read. No function that closes may run longer, and
/// a test holds its time limit in the template to this.
pub const LONGEST_CLOSING: Duration = Duration::seconds(120);

/// How long a statement may go on in the server after its function was killed: the `statement_timeout` of our sessions.
pub const LONGEST_STATEMENT: Duration = Duration::seconds(30);

/// How long a window that has just ended may take to be proved closed before another one opens the role all the same.
/// A courtesy to whoever follows, so that nobody's sessions reach over; safety rests on the announcements.
pub const CLOSING_PATIENCE: Duration = Duration::seconds(90);

/// How often an opening starts over when the windows change under it.
pub const MAX_ROUNDS: usize = 5;

/// The windows of a role, and who is closing it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// All that are not closed.
    pub rows: Vec<WindowRow>,
    /// Until when the last of the announced closings may act. It may be past.
    pub closing_until: Option<DateTime<Utc>>,
}

/// LOGIN as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginSeen {
    /// Whether the role has LOGIN.
    pub can_login: bool,
    /// Until when a password is accepted; `None` if that is no moment.
    pub valid_until: Option<DateTime<Utc>>,
}

/// Where the windows of one role stand.
pub trait WindowList {
    /// What can go wrong.
    type Error;

    /// The time.
    fn now(&self) -> DateTime<Utc>;

    /// Everything that was written before this call.
    fn windows(&self) -> impl Future<Output = Result<Windows, Self::Error>> + Send;

    /// Says that a closing begins. What goes wrong here must not keep a role open, so it is only reported.
    fn announce_closing(&self) -> impl Future<Output = ()> + Send;

    /// Says that it does nothing more. Likewise.
    fn withdraw_closing(&self) -> impl Future<Output = ()> + Send;

    /// Remembers that the role was seen open for the window of `id`.
    fn mark_opened(&self, id: &RequestId) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A role in its database, to those who cannot open it.
pub trait ClosableRole {
    /// What can go wrong.
    type Error;
    /// That it is closed, as it was observed.
    type Proof;

    /// Takes LOGIN, ends every session everywhere, and observes both.
    fn close(&self) -> impl Future<Output = Result<Self::Proof, Self::Error>> + Send;

    /// Moves the end of its login back to `until`, if it is later.
    fn narrow(&self, until: DateTime<Utc>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A role in its database, to the one that may open it.
pub trait OpenableRole: ClosableRole {
    /// LOGIN as it is committed.
    fn login(&self) -> impl Future<Output = Result<LoginSeen, Self::Error>> + Send;

    /// Gives LOGIN until `until`, or until the end it has, if that is later: what is too long is narrowed, by those who
    /// have announced it. `false` if it gave nothing, because somebody has taken LOGIN by hand from a role that was
    /// open: that is decided in the database, where nobody comes between.
    fn open(&self, until: DateTime<Utc>) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Moves the end of a login to `until` if it is earlier, and gives none: not to a role from which somebody has just
    /// taken it.
    fn extend(&self, until: DateTime<Utc>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What became of an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The role was seen open, and its windows still said so.
    Opened {
        /// Until when.
        until: DateTime<Utc>,
    },
    /// A closing goes on: try again in a moment.
    NotYet,
    /// The window is over, or not there any more.
    Over,
    /// Somebody took LOGIN by hand while a window was open. That is never undone.
    ClosedByHand,
    /// The windows changed in every round.
    Restless,
}

/// What an opening does to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpeningStep {
    /// Gives LOGIN until then.
    Open {
        /// The latest end of the windows that cover.
        until: DateTime<Utc>,
    },
    /// The role is open for another window already: its end is moved to then, if that is later.
    Extend {
        /// The latest end of the windows that cover.
        until: DateTime<Utc>,
    },
}

/// What an opening does for the window of `own` at `now`, if nothing stands in its way; `None` if that window does not
/// cover `now`.
#[must_use]
pub fn opening_step(
    rows: &[WindowRow],
    own: &RequestId,
    now: DateTime<Utc>,
) -> Option<OpeningStep> {
    let until = open_for(rows, own, now)?;
    Some(if was_opened(rows, now) {
        OpeningStep::Extend { until }
    } else {
        OpeningStep::Open { until }
    })
}

/// Opens the role for the window of `own`, which is armed. `seen` is how it was before.
///
/// If it may have given LOGIN and does not end in [`Opening::Opened`], it takes back what no window covers before it
/// answers, errors included: the end may have passed, or somebody ended the window, while it waited for a lock.
/// What breaks while it takes back, or before, is left to whoever closes the window; if that is done already, to reconcile.
///
/// # Errors
/// Those of the role and of its windows.
pub async fn open<L, R>(
    list: &L,
    role: &R,
    own: &RequestId,
    seen: LoginSeen,
) -> Result<Opening, R::Error>
where
    L: WindowList<Error = R::Error>,
    R: OpenableRole,
{
    let mut may_be_open = false;
    let opening = try_to_open(list, role, own, seen, &mut may_be_open).await;
    if may_be_open && !matches!(opening, Ok(Opening::Opened { .. })) {
        take_back(list, role).await?;
    }
    opening
}

async fn try_to_open<L, R>(
    list: &L,
    role: &R,
    own: &RequestId,
    mut seen: LoginSeen,
    may_be_open: &mut bool,
) -> Result<Opening, R::Error>
where
    L: WindowList<Error = R::Error>,
    R: OpenableRole,
{
    for _ in 0..MAX_ROUNDS {
        let before = list.windows().await?;
        let now = list.now();
        let Some(step) = opening_step(&before.rows, own, now) else {
            return Ok(Opening::Over);
        };
        if was_closed_by_hand(&before.rows, now, seen.can_login) {
            // Unless it was opened after that look. Nobody but its owner takes LOGIN while an armed window covers.
            seen = role.login().await?;
            if was_closed_by_hand(&before.rows, now, seen.can_login) {
                return Ok(Opening::ClosedByHand);
            }
        }
        if before.closing_until.is_some_and(|until| now < until)
            || is_being_closed(&before.rows, now, CLOSING_PATIENCE)
        {
            return Ok(Opening::NotYet);
        }
        *may_be_open = true;
        let until = match step {
            OpeningStep::Extend { until } => {
                role.extend(until).await?;
                until
            }
            OpeningStep::Open { until } => {
                if !role.open(until).await? {
                    return Ok(Opening::ClosedByHand);
                }
                until
            }
        };
        seen = role.login().await?;
        let after = list.windows().await?;
        if open_for(&after.rows, own, list.now()) == Some(until) {
            if !seen.can_login {
                return Ok(Opening::ClosedByHand);
            }
            if seen.valid_until == Some(until) {
                list.mark_opened(own).await?;
                return Ok(Opening::Opened { until });
            }
            // It was open for longer, for a window that was ended early.
            take_back(list, role).await?;
        }
    }
    Ok(Opening::Restless)
}

/// Until when the role is to be open; `None` if the window of `own` does not cover `now`.
fn open_for(rows: &[WindowRow], own: &RequestId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let own = rows.iter().find(|row| row.request_id == *own)?;
    match desired(rows, now) {
        Desired::Open { until } if own.covers(now) => Some(until),
        _ => None,
    }
}

fn was_opened(rows: &[WindowRow], now: DateTime<Utc>) -> bool {
    rows.iter()
        .any(|row| row.covers(now) && row.opened_at.is_some())
}

/// Leaves no LOGIN that no window covers, and no end later than that of the windows.
async fn take_back<L, R>(list: &L, role: &R) -> Result<(), R::Error>
where
    L: WindowList<Error = R::Error>,
    R: ClosableRole,
{
    list.announce_closing().await;
    let taken_back = async {
        let windows = list.windows().await?;
        match desired(&windows.rows, list.now()) {
            Desired::Open { until } => role.narrow(until).await,
            Desired::Closed => role.close().await.map(drop),
        }
    }
    .await;
    list.withdraw_closing().await;
    taken_back
}

/// What became of a closing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing<Proof> {
    /// The window is not over.
    NotYet {
        /// When it will be.
        end: DateTime<Utc>,
    },
    /// Another window covers now: the role was left open, and its login ends with that window.
    StillOpen {
        /// Its end.
        until: DateTime<Utc>,
    },
    /// The role was proved closed. That was true when it was observed: ask [`covered_until`] before telling anybody.
    Proved(Proof),
}

/// Closes the role unless a window covers now. With `own`, only once that window is over.
///
/// # Errors
/// Those of the role and of its windows. The role may be closed all the same.
pub async fn close<L, R>(
    list: &L,
    role: &R,
    own: Option<&RequestId>,
) -> Result<Closing<R::Proof>, R::Error>
where
    L: WindowList<Error = R::Error>,
    R: ClosableRole,
{
    list.announce_closing().await;
    let closing = close_announced(list, role, own).await;
    list.withdraw_closing().await;
    closing
}

/// The end of the windows that cover now, if any does: then the role may be open again, whatever was proved before.
///
/// # Errors
/// Those of the windows.
pub async fn covered_until<L: WindowList>(list: &L) -> Result<Option<DateTime<Utc>>, L::Error> {
    let windows = list.windows().await?;
    Ok(match desired(&windows.rows, list.now()) {
        Desired::Open { until } => Some(until),
        Desired::Closed => None,
    })
}

async fn close_announced<L, R>(
    list: &L,
    role: &R,
    own: Option<&RequestId>,
) -> Result<Closing<R::Proof>, R::Error>
where
    L: WindowList<Error = R::Error>,
    R: ClosableRole,
{
    let windows = list.windows().await?;
    let now = list.now();
    let own = own.and_then(|own| windows.rows.iter().find(|row| row.request_id == *own));
    if let Some(row) = own
        && !row.is_over(now)
    {
        return Ok(Closing::NotYet {
            end: row.window.end(),
        });
    }
    match desired(&windows.rows, now) {
        Desired::Open { until } => {
            // It was opened for longer, and ended early.
            if own.is_none_or(|row| until < row.window.end()) {
                role.narrow(until).await?;
            }
            Ok(Closing::StillOpen { until })
        }
        Desired::Closed => Ok(Closing::Proved(role.close().await?)),
    }
}
