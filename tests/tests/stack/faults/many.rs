//! Many windows that end in the same second, with and without room for their closings, and a release in mid-window.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use xtask::records::{Call, RequestRow};
use xtask::stack::Stack;

use super::database::BOTH;
use super::defences::{delete_schedule, switch_rule};
use super::evidence::{
    Defence, PROVED_WITHIN, Row, closed_on_each, closers, closings_since, started_at, until_proved,
};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, open_together};

/// How many windows are opened at the same time, so that no request waits for its message too long.
const OPENED_AT_ONCE: usize = 10;

/// Another release is deployed over running windows: other packages, another template, other parameters.
pub(super) async fn released_in_mid_window(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    // As long as the first deployment took, twice, and a minute.
    let took = stack
        .setup_took()
        .iter()
        .find(|(part, _)| *part == "deploy");
    let deploying = i64::try_from(took.unwrap().1.as_secs()).unwrap();
    let opens = open_together(sites, 60 + 2 * deploying).await;
    let before = code_of(stack, "DisableLoginFunction").await;
    stack
        .deploy_again(&[("ClosingConcurrency", "5"), ("ReconcileMinutes", "1")])
        .await
        .unwrap();
    assert!(
        Utc::now() < opens[0].end,
        "the release took longer than the window"
    );
    assert_ne!(
        code_of(stack, "DisableLoginFunction").await,
        before,
        "nothing new"
    );
    for (site, open) in sites.iter().zip(&opens) {
        assert!(
            site.can_log_in(&open.role).await,
            "the release closed the window"
        );
    }
    let fault = "another release in mid-window";
    closed_on_each(sites, opens, None, fault, &BOTH).await
}

async fn code_of(stack: &Stack, function: &str) -> String {
    let arn = stack.output(&format!("{function}Arn")).unwrap();
    let arguments = [
        "lambda",
        "get-function-configuration",
        "--function-name",
        arn,
    ];
    let answer = stack.aws().aws(&arguments).await.unwrap();
    answer["CodeSha256"].as_str().unwrap().to_owned()
}

/// After a release with five concurrent closings, reconcile comes every minute by itself: all else is lost.
pub(super) async fn only_reconcile_by_itself(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let opens = open_together(sites, 600).await;
    for open in &opens {
        delete_schedule(stack, open).await;
    }
    switch_rule(stack, "disable-rule").await;
    for open in &opens {
        stack.stop_execution(open.execution()).await.unwrap();
    }
    let due = Utc::now();
    let fault = "all lost, reconcile on its own pace of a minute";
    let rows = closed_on_each(sites, opens, Some(due), fault, &[Defence::Reconcile]).await;
    switch_rule(stack, "enable-rule").await;
    rows
}

/// `n` windows on one cluster that end in the same second, each with a session.
pub(super) async fn end_together(site: Site<'_>, n: usize, fault: &str) -> Row {
    // One more, to see how long an opening takes on this machine.
    let since = Utc::now();
    let first = site.open("PT60S").await;
    let end = common_end(n, Utc::now() - since);
    let opening = (0..n).map(async |_| {
        let asked = site
            .ask(json!({ "duration": null, "end": end.to_rfc3339() }))
            .await;
        site.open_asked(asked).await
    });
    let opens: Vec<Open> = stream::iter(opening)
        .buffered(OPENED_AT_ONCE)
        .collect()
        .await;
    assert!(Utc::now() < end, "{n} windows were not open before {end}");
    assert!(opens.iter().all(|open| open.end == end));
    let mut lags = all_closed(site, &opens, end).await;
    let rows = join_all(
        opens
            .iter()
            .map(|open| until_proved(site.stack, &open.request_id)),
    )
    .await;
    let closed_by = tally(site.stack, &opens, &rows).await;
    let n_throttled = n_throttled(site.stack, &opens).await;
    until_proved(site.stack, &first.request_id).await;
    let mut n_survivors = 0;
    for open in opens {
        let session = open.session.unwrap();
        n_survivors += i64::from(
            session
                .cut(std::time::Duration::from_secs(5))
                .await
                .is_err(),
        );
    }
    assert_eq!(n_survivors, 0, "{fault}");
    lags.sort_unstable();
    Row {
        note: format!(
            "median {} ms: {}; throttled {n_throttled} times",
            lags[n / 2].num_milliseconds(),
            parts_of_the_lag(&rows, end)
        ),
        closed_by,
        lag: Some(lags[n - 1]),
        n_survivors,
        ..Row::new(site, fault)
    }
}

/// How many calls of disable-login by the windows' own executions found no room.
async fn n_throttled(stack: &Stack, opens: &[Open]) -> usize {
    let mut n_throttled = 0;
    for open in opens {
        let history = stack.history(open.execution()).await.unwrap();
        let errors = history.calls.iter().filter_map(Call::error);
        n_throttled += errors
            .filter(|error| *error == "Lambda.TooManyRequestsException")
            .count();
    }
    n_throttled
}

/// The medians of what the lags are made of, by the words of those who closed.
fn parts_of_the_lag(rows: &[RequestRow], end: DateTime<Utc>) -> String {
    let median_of = |name: &str| {
        let moments = rows.iter().filter_map(|row| row.closing_moment(name));
        let mut lags: Vec<i64> = moments.map(|at| (at - end).num_milliseconds()).collect();
        lags.sort_unstable();
        lags.get(lags.len() / 2).copied().unwrap_or_default()
    };
    format!(
        "invoked {}, connected {}, refused {}, gone {}",
        median_of("invoked_at"),
        median_of("connected_at"),
        median_of("login_refused_at"),
        median_of("sessions_gone_at"),
    )
}

/// Who closed how many of them.
async fn tally(stack: &Stack, opens: &[Open], rows: &[RequestRow]) -> String {
    let since = started_at(stack, opens[0].execution()).await;
    let closings = closings_since(stack, since).await;
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for (open, row) in opens.iter().zip(rows) {
        let closers = closers(stack, &closings, open, row).await;
        let defences: Vec<String> = closers
            .iter()
            .map(|closer| closer.defence.to_string())
            .collect();
        assert!(!defences.is_empty(), "nobody closed {}", open.role);
        *tally.entry(defences.join(" or ")).or_default() += 1;
    }
    let words: Vec<String> = tally.iter().map(|(who, n)| format!("{who} {n}")).collect();
    words.join(", ")
}

/// Openings share the machine's cores, so that many take longer than one, and less long than one after the other.
fn common_end(n: usize, one_took: TimeDelta) -> DateTime<Utc> {
    let all_take = one_took * i32::try_from(n).unwrap() * 7 / 10;
    let end = Utc::now() + all_take + TimeDelta::seconds(30);
    DateTime::from_timestamp(end.timestamp(), 0).unwrap()
}

/// Watches all roles until the server shows none with LOGIN or a session, and says how long after the end each was.
async fn all_closed(site: Site<'_>, opens: &[Open], end: DateTime<Utc>) -> Vec<TimeDelta> {
    let observer = site.observer().await;
    let roles: Vec<&str> = opens.iter().map(|open| open.role.as_str()).collect();
    let query = "SELECT rolname::text FROM pg_roles r WHERE rolname::text = ANY ($1)
                    AND (rolcanlogin OR EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = r.oid))";
    let mut closed_after = BTreeMap::new();
    while closed_after.len() < roles.len() {
        let now = Utc::now();
        let rows = observer.query(query, &[&roles]).await.unwrap();
        let still_open: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for role in &roles {
            if !still_open.iter().any(|open| open == role) {
                closed_after.entry(*role).or_insert(now - end);
            }
        }
        let overdue = now - end;
        assert!(
            overdue < TimeDelta::from_std(PROVED_WITHIN).unwrap(),
            "still open: {still_open:?}"
        );
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    let early = closed_after.values().min().unwrap();
    assert!(*early >= TimeDelta::zero(), "closed {early} before the end");
    closed_after.into_values().collect()
}
