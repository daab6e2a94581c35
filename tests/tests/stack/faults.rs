//! Faults against windows of the deployed stack, what closed each, and how long after.
//!
//! Each run has a profile. The short one is a part of `cargo xtask test`: one version of PostgreSQL, and a fault for
//! each defence. The long one is `cargo xtask test chaos`: every fault on every version. All versions share one stack,
//! with a server of each in its catalogue, so that what breaks the stack breaks once for all of them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::runtime::Runtime;
use xtask::deploy::Optimisation;
use xtask::postgres::{LocalPostgres, Settings};
use xtask::stack::Stack;

use self::evidence::Row;
use self::site::Site;
use super::fixture::keep_logs;

mod database;
mod defences;
mod evidence;
mod functions;
mod many;
mod sessions;
mod site;
mod states;

/// The variable that asks for the long profile, with the value `long`.
const PROFILE_VARIABLE: &str = "LATCHKEY_CHAOS";
/// The variable that names the versions of PostgreSQL, such as `13,18`.
const VERSIONS_VARIABLE: &str = "LATCHKEY_PG_VERSIONS";
/// How many faults of one round run at the same time; they wait more than they work.
const AT_ONCE: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Short,
    Long,
}

#[test]
fn whatever_breaks_the_window_ends_closed() {
    let profile = match std::env::var(PROFILE_VARIABLE).as_deref() {
        Ok("long") => Profile::Long,
        Ok("short") | Err(_) => Profile::Short,
        Ok(other) => panic!("{PROFILE_VARIABLE} is long or short, not {other}"),
    };
    let table = Runtime::new()
        .unwrap()
        .block_on(on_versions(&majors(profile), profile));
    println!("{}", table.print());
    let n_failed = table.failures.len();
    let n_survivors: i64 = table.rows.iter().map(|row| row.n_survivors).sum();
    println!(
        "{} faults on PostgreSQL {}, {} s: {n_failed} not closed as promised, {n_survivors} survivors",
        table.rows.len(),
        table.versions.join(", "),
        table.took.as_secs()
    );
    if profile == Profile::Short {
        println!("a short run: `cargo xtask test chaos` has more faults, on PostgreSQL 13 to 18");
    }
    assert_eq!((n_failed, n_survivors), (0, 0));
    table.assert_whole(profile);
}

/// The versions to test on; `None` is whichever is there.
fn majors(profile: Profile) -> Vec<Option<u32>> {
    let Ok(list) = std::env::var(VERSIONS_VARIABLE) else {
        return vec![None];
    };
    let parsed = list.split(',').map(|major| major.trim().parse());
    let majors: Result<Vec<u32>, _> = parsed.collect();
    let majors = majors.unwrap_or_else(|_| panic!("{VERSIONS_VARIABLE} is like 13,15,18"));
    let n = if profile == Profile::Short {
        1
    } else {
        majors.len()
    };
    majors.into_iter().take(n).map(Some).collect()
}

/// What came of all faults.
struct Table {
    versions: Vec<String>,
    took: Duration,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One stack, with a server of each version in its catalogue.
async fn on_versions(majors: &[Option<u32>], profile: Profile) -> Table {
    let started = Instant::now();
    let settings = |major| Settings {
        major,
        ..Settings::default()
    };
    let stack = Stack::start_with(
        "chaos",
        Optimisation::of_environment(),
        &settings(majors[0]),
    )
    .await
    .unwrap_or_else(|error| panic!("start the stack: {}", error.with_causes()));
    let mut others = Vec::new();
    for major in &majors[1..] {
        let server = LocalPostgres::start(&settings(*major)).await.unwrap();
        let target = format!("postgres-{}", major.unwrap_or_default());
        stack.add_database(&target, &server).await.unwrap();
        others.push((target, server));
    }
    let mut sites = vec![Site::of(&stack)];
    sites.extend(others.iter().map(|(target, postgres)| Site {
        stack: &stack,
        target,
        postgres,
    }));
    let mut table = Table {
        versions: sites
            .iter()
            .map(|site| site.postgres.version().to_owned())
            .collect(),
        took: Duration::ZERO,
        rows: Vec::new(),
        failures: Vec::new(),
    };
    defences::stop_reconciling(&stack).await;
    let health = Health::of(&sites).await;
    for round in rounds(&sites, profile) {
        let n_failures = table.failures.len();
        table.take(round, started).await;
        if table.failures.len() > n_failures {
            health.restore().await;
        }
    }
    if !table.failures.is_empty() {
        keep_logs(&stack).await;
    }
    table.took = started.elapsed();
    table
}

/// What faults change for more than one window, as it was before.
struct Health<'a> {
    stack: &'a Stack,
    topic_policy: String,
    verifiers: Vec<(Site<'a>, &'static str, String)>,
}

impl<'a> Health<'a> {
    async fn of(sites: &[Site<'a>]) -> Self {
        let stack = sites[0].stack;
        let mut verifiers = Vec::new();
        for site in sites {
            for user in ["latchkey_opener", "latchkey_closer"] {
                verifiers.push((*site, user, database::verifier(*site, user).await));
            }
        }
        Self {
            stack,
            topic_policy: states::topic_policy(stack).await,
            verifiers,
        }
    }

    /// Undoes what a fault that failed may have left, so that it fails alone.
    async fn restore(&self) {
        defences::switch_rule(self.stack, "enable-rule").await;
        states::set_topic_policy(self.stack, &self.topic_policy).await;
        for (site, user, verifier) in &self.verifiers {
            database::readmit(*site, user, verifier).await;
        }
        for function in functions::THROTTLED {
            functions::let_run(self.stack, function).await;
        }
    }
}

type Fault<'a> = Pin<Box<dyn Future<Output = Vec<Row>> + 'a>>;

/// Faults of one round do not disturb each other and run at the same time.
type Round<'a> = Vec<Fault<'a>>;

fn rounds<'a>(sites: &'a [Site<'a>], profile: Profile) -> Vec<Round<'a>> {
    let long = profile == Profile::Long;
    let mut quiet: Round<'_> = Vec::new();
    for site in sites {
        quiet.push(one(defences::nothing(*site)));
        quiet.push(one(defences::only_the_event(*site)));
        quiet.push(one(states::in_await_approval(*site)));
        quiet.push(one(states::in_enable_login(*site)));
        quiet.push(one(states::in_wait_until_end(*site)));
        quiet.push(one(states::in_disable_login(*site)));
        if long {
            quiet.push(one(states::in_wait_until_start(*site)));
            quiet.push(Box::pin(database::with_a_reader(*site)));
            quiet.push(Box::pin(database::on_another_server(*site)));
        }
    }
    let killed: Round<'_> = vec![
        Box::pin(functions::killed_while_opening(sites)),
        Box::pin(functions::killed_while_closing(sites)),
    ];
    let lost: Fault<'_> = Box::pin(defences::without_events(sites));
    if !long {
        let killed_or_lost = killed.into_iter().chain([lost]).collect();
        return vec![quiet, killed_or_lost];
    }
    let mut rounds: Vec<Round<'_>> = vec![
        quiet,
        killed,
        vec![lost],
        vec![Box::pin(defences::by_hand(sites))],
        vec![Box::pin(functions::killed_and_stopped_while_opening(sites))],
        vec![Box::pin(functions::throttled_at_the_end(sites))],
        vec![Box::pin(states::in_what_sends_messages(sites))],
        vec![Box::pin(states::in_what_a_throttled_function_holds(sites))],
        vec![Box::pin(states::in_what_confirms_the_requester(sites))],
        vec![Box::pin(states::in_what_follows_a_failure(sites))],
    ];
    let together = |n, fault| {
        sites
            .iter()
            .map(move |site| vec![one(many::end_together(*site, n, fault))])
    };
    rounds.extend(together(50, "50 windows end together"));
    rounds.push(vec![Box::pin(many::released_in_mid_window(sites))]);
    rounds.extend(together(15, "15 end together, room for 5"));
    rounds.push(vec![Box::pin(many::only_reconcile_by_itself(sites))]);
    rounds
}

fn one<'a>(fault: impl Future<Output = Row> + 'a) -> Fault<'a> {
    Box::pin(async move { vec![fault.await] })
}

impl Table {
    /// Runs a round. One fault that is not closed as promised hides none of the others.
    async fn take(&mut self, round: Round<'_>, started: Instant) {
        let mut results = stream::iter(round.into_iter().map(caught)).buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            let at = started.elapsed().as_secs();
            match result {
                Ok(rows) => {
                    // A long run is worth following.
                    for row in &rows {
                        println!("{at:>5} s, PostgreSQL {}: {}", row.version, line(row));
                    }
                    self.rows.extend(rows);
                }
                Err(panic) => {
                    let failure = said(&*panic);
                    println!("{at:>5} s, NOT AS PROMISED: {failure}");
                    self.failures.push(failure);
                }
            }
        }
    }

    /// Every fault was seen on every version, and an execution was stopped in every state in which it can be.
    fn assert_whole(&self, profile: Profile) {
        let faults: BTreeSet<&str> = self.rows.iter().map(|row| row.fault.as_str()).collect();
        for version in &self.versions {
            let rows: Vec<&Row> = self.rows_of(version).collect();
            let seen: BTreeSet<&str> = rows.iter().map(|row| row.fault.as_str()).collect();
            assert_eq!(
                seen, faults,
                "faults that PostgreSQL {version} did not meet"
            );
            assert_eq!(rows.len(), seen.len(), "a fault came twice");
            if profile == Profile::Long {
                let stopped: BTreeSet<String> = rows
                    .iter()
                    .filter_map(|row| row.stopped_in.clone())
                    .collect();
                assert_eq!(
                    stopped,
                    states::stoppable(),
                    "states in which nothing here stops an execution, or that are gone"
                );
            }
        }
    }

    fn rows_of<'a>(&'a self, version: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.version == version)
    }

    fn print(&self) -> String {
        let mut text = String::new();
        for version in &self.versions {
            let _ = writeln!(
                text,
                "\nPostgreSQL {version}\n{:<54} {:<46} {:>9}  survivors",
                "fault", "closed by", "after"
            );
            let mut rows: Vec<&Row> = self.rows_of(version).collect();
            rows.sort_by_key(|row| &row.fault);
            for row in rows {
                let _ = writeln!(text, "{}", line(row));
            }
        }
        for failure in &self.failures {
            let _ = writeln!(text, "NOT AS PROMISED: {failure}");
        }
        text
    }
}

fn line(row: &Row) -> String {
    let lag = row.lag.map_or_else(
        || "-".to_owned(),
        |lag| format!("{} ms", lag.num_milliseconds()),
    );
    let note = if row.note.is_empty() {
        String::new()
    } else {
        format!("  ({})", row.note)
    };
    format!(
        "{:<54} {:<46} {lag:>9}  {}{note}",
        row.fault, row.closed_by, row.n_survivors
    )
}

/// Runs a fault, and catches what it says if it panics.
async fn caught(mut fault: Fault<'_>) -> std::thread::Result<Vec<Row>> {
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| fault.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(rows)) => Poll::Ready(Ok(rows)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
