//! What closed a window, by the records: the call of disable-login that wrote the proof, and who had made it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use xtask::records::{Call, History, RequestRow};
use xtask::stack::{Execution, Stack};

use super::site::{LOOK_AT_RECORDS_AFTER, Open, Site};

/// How long a closing may take to be proved, with a minute's wait of the state machine in it.
pub(super) const PROVED_WITHIN: Duration = Duration::from_secs(240);

/// A line of the table.
#[derive(Clone)]
pub(super) struct Row {
    /// Of the server on which it happened.
    pub(super) version: String,
    /// In the same words on every version.
    pub(super) fault: String,
    /// What else there is to say about it.
    pub(super) note: String,
    pub(super) closed_by: String,
    /// From when it should be closed to when the server had neither LOGIN nor a session; `None` if it never opened.
    pub(super) lag: Option<TimeDelta>,
    pub(super) n_survivors: i64,
    /// The state in which the execution was stopped, if that was the fault.
    pub(super) stopped_in: Option<String>,
}

/// What ends a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defence {
    StateMachine,
    Event,
    Schedule,
    Reconcile,
}

impl fmt::Display for Defence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::StateMachine => "the state machine",
            Self::Event => "status-change event",
            Self::Schedule => "schedule at the end",
            Self::Reconcile => "reconcile",
        })
    }
}

/// A call of disable-login, and whose it was.
pub(super) struct Closer {
    pub(super) defence: Defence,
    /// Its number among those calls of that execution that tried to close.
    n_try: usize,
    /// Whether its execution was stopped while it ran.
    outlived_its_execution: bool,
}

impl fmt::Display for Closer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.defence)?;
        if self.n_try > 1 {
            write!(formatter, ", try {}", self.n_try)?;
        }
        if self.outlived_its_execution {
            formatter.write_str(", its last call")?;
        }
        Ok(())
    }
}

/// Waits until the window is closed, by the server's word and by the table's, and says by whom, how long after `due`,
/// and what survived. `allowed` are the defences that the fault left.
pub(super) async fn closed(
    site: Site<'_>,
    open: Open,
    due: DateTime<Utc>,
    fault: &str,
    allowed: &[Defence],
) -> Row {
    let closed_at = site.until_closed(&open.role, PROVED_WITHIN).await;
    let row = until_proved(site.stack, &open.request_id).await;
    let since = started_at(site.stack, open.execution()).await;
    let closings = closings_since(site.stack, since).await;
    let closers = closers(site.stack, &closings, &open, &row).await;
    assert!(!closers.is_empty(), "{fault}: nobody closed it: {row:?}");
    for closer in &closers {
        assert!(
            allowed.contains(&closer.defence),
            "{fault}: closed by {closer}; expected {allowed:?}"
        );
    }
    let words: Vec<String> = closers.iter().map(ToString::to_string).collect();
    row_of(site, open, due, closed_at, fault, words.join(" or ")).await
}

/// The same on every version.
pub(super) async fn closed_on_each(
    sites: &[Site<'_>],
    opens: Vec<Open>,
    due: Option<DateTime<Utc>>,
    fault: &str,
    allowed: &[Defence],
) -> Vec<Row> {
    let closing = sites.iter().zip(opens).map(|(site, open)| {
        let due = due.unwrap_or(open.end);
        closed(*site, open, due, fault, allowed)
    });
    join_all(closing).await
}

/// What a window came to that is seen closed.
async fn row_of(
    site: Site<'_>,
    open: Open,
    due: DateTime<Utc>,
    closed_at: DateTime<Utc>,
    fault: &str,
    closed_by: String,
) -> Row {
    let still_lives = match open.session {
        Some(session) => session.cut(Duration::from_secs(5)).await.is_err(),
        None => false,
    };
    let seen = site.look(&site.observer().await, &open.role).await;
    assert!(!seen.can_login, "{fault}: it can log in again");
    assert!(!site.can_log_in(&open.role).await, "{fault}: it can log in");
    let n_survivors = seen.n_sessions + i64::from(still_lives);
    assert_eq!(n_survivors, 0, "{fault}: sessions survived");
    Row {
        closed_by,
        lag: Some((closed_at - due).max(TimeDelta::zero())),
        n_survivors,
        ..Row::new(site, fault)
    }
}

impl Row {
    /// A row that does not say yet what came of the fault.
    pub(super) fn new(site: Site<'_>, fault: &str) -> Self {
        Self {
            version: site.postgres.version().to_owned(),
            fault: fault.to_owned(),
            note: String::new(),
            closed_by: String::new(),
            lag: None,
            n_survivors: 0,
            stopped_in: None,
        }
    }
}

/// Waits until the table says that the window is closed.
pub(super) async fn until_proved(stack: &Stack, request_id: &str) -> RequestRow {
    let until = Utc::now() + TimeDelta::from_std(PROVED_WITHIN).unwrap();
    loop {
        let row = stack.request_row(request_id).await.unwrap();
        let row = row.unwrap_or_else(|| panic!("request {request_id} is gone"));
        if row.status == "closed" {
            return row;
        }
        assert!(
            Utc::now() < until,
            "request {request_id} is {} and not proved closed",
            row.status
        );
        tokio::time::sleep(LOOK_AT_RECORDS_AFTER).await;
    }
}

/// When an execution was started: no closing of its window was before.
pub(super) async fn started_at(stack: &Stack, execution: &Execution) -> DateTime<Utc> {
    let history = stack.history(execution).await.unwrap();
    history.states.first().expect("it entered no state").1
}

/// The executions of close-window that were started since then.
pub(super) async fn closings_since(
    stack: &Stack,
    since: DateTime<Utc>,
) -> Vec<(String, Execution, History)> {
    let mut closings = Vec::new();
    let executions = stack.executions_since("CloseWindowArn", since).await;
    for (name, execution) in executions.unwrap() {
        let history = stack.history(&execution).await.unwrap();
        closings.push((name, execution, history));
    }
    closings
}

/// The calls that can have written the proof: those that were running when it was made. There is one, unless two
/// closed at the same moment.
pub(super) async fn closers(
    stack: &Stack,
    closings: &[(String, Execution, History)],
    open: &Open,
    row: &RequestRow,
) -> Vec<Closer> {
    let proved_at = row.closing_moment("at").expect("a closing without a time");
    let invoked_at = row.closing_moment("invoked_at").unwrap_or(proved_at);
    let mut executions = vec![(Defence::StateMachine, open.execution())];
    for (name, execution, history) in closings {
        if concerns(history, open) {
            executions.push((starter(name, history), execution));
        }
    }
    let mut closers = Vec::new();
    for (defence, execution) in executions {
        let history = stack.history(execution).await.unwrap();
        let tries: Vec<&Call> = history
            .calls
            .iter()
            .filter(|call| call.state == "Disable Login" && call.outcome() != "not_yet")
            .collect();
        for (index, call) in tries.iter().enumerate() {
            let was_running_at = |moment| {
                call.made_at <= moment
                    && call
                        .result
                        .as_ref()
                        .is_none_or(|result| result.at >= moment)
            };
            if !was_running_at(invoked_at) || !was_running_at(proved_at) {
                continue;
            }
            // One that still runs did not write it, and one whose execution was stopped has no answer there.
            let is_running = stack.wait_for_end(execution, Duration::ZERO).await.is_err();
            if call.result.is_none() && is_running {
                continue;
            }
            closers.push(Closer {
                defence,
                n_try: index + 1,
                outlived_its_execution: call.result.is_none(),
            });
        }
    }
    closers
}

fn concerns(history: &History, open: &Open) -> bool {
    history.input["request_id"] == open.request_id.as_str()
        || history.input["execution_arn"] == open.execution().arn.as_str()
}

/// Who started an execution of close-window.
fn starter(name: &str, history: &History) -> Defence {
    if history.input["action"] == "execution_ended" {
        return Defence::Event;
    }
    let request_id = history.input["request_id"].as_str().unwrap_or_default();
    // reconcile names its closings after the request; Scheduler gives them names of its own.
    if name.starts_with(&format!("{request_id}-")) {
        Defence::Reconcile
    } else {
        Defence::Schedule
    }
}

/// Waits until the end of a stopped execution has been dealt with, and returns what disable-login answered.
pub(super) async fn until_its_end_was_seen(stack: &Stack, execution: &Execution) -> String {
    let since = started_at(stack, execution).await;
    let until = Utc::now() + TimeDelta::from_std(PROVED_WITHIN).unwrap();
    loop {
        for (_, _, history) in closings_since(stack, since).await {
            if history.input["execution_arn"] != execution.arn.as_str() {
                continue;
            }
            if let Some(call) = history.calls.iter().find(|call| !call.outcome().is_empty()) {
                return call.outcome().to_owned();
            }
        }
        assert!(
            Utc::now() < until,
            "the end of {} was never dealt with",
            execution.arn
        );
        tokio::time::sleep(LOOK_AT_RECORDS_AFTER).await;
    }
}
