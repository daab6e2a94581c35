//! Faults against windows of the deployed stack, what closed each, and how long after.
//!
//! Each run has a profile. The short one is a part of `cargo xtask test`: one version of PostgreSQL, and a fault for
//! each defence. The long one is `cargo xtask test chaos`: every fault on every version.

use std::any::Any;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use xtask::deploy::Optimisation;
use xtask::postgres::Settings;
use xtask::stack::Stack;

use self::evidence::Row;
use self::site::Site;
use super::fixture::keep_logs;

mod database;
mod defences;
mod evidence;
mod functions;
mod many;
mod site;
mod states;

/// The variable that asks for the long profile, with the value `long`.
const PROFILE_VARIABLE: &str = "LATCHKEY_CHAOS";
/// The variable that names the versions of PostgreSQL, such as `13,18`.
const VERSIONS_VARIABLE: &str = "LATCHKEY_PG_VERSIONS";
/// How many stacks run at the same time; they wait more than they work.
const STACKS_AT_ONCE: usize = 3;

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
    let tables = on_each(majors(profile), profile);
    for table in &tables {
        println!("{}", table.print());
    }
    let versions: Vec<&str> = tables.iter().map(|table| table.version.as_str()).collect();
    let n_rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    let n_failed: usize = tables.iter().map(|table| table.failures.len()).sum();
    let n_survivors: i64 = tables
        .iter()
        .flat_map(|table| &table.rows)
        .map(|row| row.n_survivors)
        .sum();
    println!(
        "{n_rows} faults on PostgreSQL {}: {n_failed} not closed as promised, {n_survivors} survivors",
        versions.join(", ")
    );
    if profile == Profile::Short {
        println!("a short run: `cargo xtask test chaos` has more faults, on PostgreSQL 13 to 18");
    }
    assert_eq!((n_failed, n_survivors), (0, 0));
}

/// Tests each version on a stack of its own, a few at the same time.
fn on_each(majors: Vec<Option<u32>>, profile: Profile) -> Vec<Table> {
    let n = majors.len();
    let left = Mutex::new(majors.into_iter());
    let tables = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..STACKS_AT_ONCE.min(n) {
            scope.spawn(|| {
                let runtime = Runtime::new().unwrap();
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(major) = next else { break };
                    let table = runtime.block_on(on_version(major, profile));
                    tables.lock().unwrap().push(table);
                }
            });
        }
    });
    tables.into_inner().unwrap()
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

/// What came of all faults on one version.
struct Table {
    version: String,
    took: Duration,
    rows: Vec<Row>,
    failures: Vec<String>,
}

async fn on_version(major: Option<u32>, profile: Profile) -> Table {
    let started = Instant::now();
    let name = major.map_or_else(|| "chaos".to_owned(), |major| format!("chaos-{major}"));
    let settings = Settings {
        major,
        ..Settings::default()
    };
    let stack = Stack::start_with(&name, Optimisation::of_environment(), &settings)
        .await
        .unwrap_or_else(|error| panic!("start the stack: {}", error.with_causes()));
    let mut table = Table {
        version: stack.postgres().version().to_owned(),
        took: Duration::ZERO,
        rows: Vec::new(),
        failures: Vec::new(),
    };
    defences::stop_reconciling(&stack).await;
    let health = Health::of(&stack).await;
    for round in rounds(&stack, profile) {
        let n_failures = table.failures.len();
        table.take(round).await;
        if table.failures.len() > n_failures {
            health.restore(&stack).await;
        }
    }
    if profile == Profile::Long && table.failures.is_empty() {
        let stopped: std::collections::BTreeSet<String> = table
            .rows
            .iter()
            .filter_map(|row| row.stopped_in.clone())
            .collect();
        assert_eq!(
            stopped,
            states::stoppable(),
            "states in which nothing here stops an execution, or that are gone"
        );
    }
    if !table.failures.is_empty() {
        keep_logs(&stack).await;
    }
    table.took = started.elapsed();
    table
}

/// What faults change for the whole stack, as it was before.
struct Health {
    topic_policy: String,
    verifiers: Vec<(&'static str, String)>,
}

impl Health {
    async fn of(stack: &Stack) -> Self {
        let mut verifiers = Vec::new();
        for user in ["latchkey_opener", "latchkey_closer"] {
            verifiers.push((user, database::verifier(Site::of(stack), user).await));
        }
        Self {
            topic_policy: states::topic_policy(stack).await,
            verifiers,
        }
    }

    /// Undoes what a fault that failed may have left, so that it fails alone.
    async fn restore(&self, stack: &Stack) {
        defences::switch_rule(stack, "enable-rule").await;
        states::set_topic_policy(stack, &self.topic_policy).await;
        for (user, verifier) in &self.verifiers {
            database::readmit(Site::of(stack), user, verifier).await;
        }
        for function in functions::THROTTLED {
            functions::let_run(stack, function).await;
        }
    }
}

type Fault<'a> = Pin<Box<dyn Future<Output = Vec<Row>> + 'a>>;

/// Faults of one round do not disturb each other and run at the same time.
type Round<'a> = Vec<Fault<'a>>;

fn rounds(stack: &Stack, profile: Profile) -> Vec<Round<'_>> {
    let site = Site::of(stack);
    let mut quiet: Round<'_> = vec![
        one(defences::nothing(site)),
        one(defences::only_the_event(site)),
        one(states::in_await_approval(site)),
        one(states::in_enable_login(site)),
        one(states::in_wait_until_end(site)),
        one(states::in_disable_login(site)),
    ];
    let mut killed: Round<'_> = vec![
        one(functions::killed_while_opening(site)),
        one(functions::killed_while_closing(site)),
    ];
    let lost: Fault<'_> = Box::pin(defences::without_events(site));
    if profile == Profile::Short {
        killed.push(lost);
        return vec![quiet, killed];
    }
    quiet.push(one(states::in_wait_until_start(site)));
    quiet.push(one(database::failover_at_the_end(stack)));
    quiet.push(Box::pin(database::on_another_server(stack)));
    killed.push(Box::pin(defences::by_hand(site)));
    vec![
        quiet,
        killed,
        vec![lost],
        vec![one(functions::killed_and_stopped_while_opening(site))],
        vec![one(functions::throttled_at_the_end(site))],
        vec![Box::pin(states::in_what_sends_messages(site))],
        vec![Box::pin(states::in_what_a_throttled_function_holds(site))],
        vec![Box::pin(states::in_what_follows_a_failure(site))],
        vec![one(many::end_together(site, 50, "50 windows end together"))],
        vec![one(many::released_in_mid_window(site))],
        vec![one(many::end_together(
            site,
            15,
            "15 end together, room for 5",
        ))],
        vec![one(many::only_reconcile_by_itself(site))],
    ]
}

fn one<'a>(fault: impl Future<Output = Row> + 'a) -> Fault<'a> {
    Box::pin(async move { vec![fault.await] })
}

impl Table {
    /// Runs a round. One fault that is not closed as promised hides none of the others.
    async fn take(&mut self, round: Round<'_>) {
        for result in join_all(round.into_iter().map(caught)).await {
            match result {
                Ok(rows) => {
                    // A long run is worth following.
                    for row in &rows {
                        println!("PostgreSQL {}: {}", self.version, line(row));
                    }
                    self.rows.extend(rows);
                }
                Err(panic) => self.failures.push(said(&*panic)),
            }
        }
    }

    fn print(&self) -> String {
        let mut text = format!(
            "\nPostgreSQL {} ({} s)\n{:<66} {:<46} {:>9}  survivors\n",
            self.version,
            self.took.as_secs(),
            "fault",
            "closed by",
            "after"
        );
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
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
    format!(
        "{:<66} {:<46} {lag:>9}  {}",
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
