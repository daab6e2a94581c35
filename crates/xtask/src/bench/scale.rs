//! `cargo xtask bench scale`: what a round of reconcile and a closing cost with more windows and more databases.
//!
//! Every database is the same server under another name, so that what grows is our own work. Counted are calls of AWS
//! and transactions, which do not depend on the machine; CPU time and memory stand beside them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use xtask::console::{self, Step};
use xtask::error::{Error, Result};

use super::lambda::Lambda;
use super::world::{Size, World};

/// Databases and open windows, and requests that are closed by now.
const SIZES: [Size; 11] = [
    size(1, 1, 0),
    size(1, 10, 0),
    size(1, 100, 0),
    size(1, 1000, 0),
    size(10, 10, 0),
    size(10, 100, 0),
    size(10, 1000, 0),
    size(100, 100, 0),
    size(100, 1000, 0),
    size(1, 1, 10_000),
    size(100, 1000, 10_000),
];
/// How many other windows are open on the role when one of them ends.
const OTHERS: [usize; 4] = [0, 10, 100, 1000];

const fn size(databases: usize, windows: usize, history: usize) -> Size {
    Size {
        databases,
        windows,
        history,
    }
}

/// What one invocation in a fresh process cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    calls: usize,
    transactions: i64,
    cpu_millis: f64,
    wall: Duration,
    memory_mb: f64,
}

/// Measures, prints, and fails if something grows faster than it may.
pub(crate) async fn run(programs: &Path, folder: &Path) -> Result<()> {
    let step = Step::begin("Start PostgreSQL and AWS");
    let mut world = World::start(folder).await?;
    step.done_with(&format!("PostgreSQL {}", world.postgres.version()));
    let log = folder.join("scale.log");
    let command = |name: &str| {
        let mut command = Command::new(programs.join(name).join("bootstrap"));
        world.equip(&mut command);
        command
    };
    let (reconcile, disable) = (command("reconcile"), command("disable-login"));

    console::say("\nA round of reconcile");
    let mut rounds = Vec::new();
    for size in SIZES {
        let cost = reconciled(&mut world, &reconcile, &log, size).await?;
        print(&size.to_string(), &cost);
        rounds.push((size, cost));
    }
    console::say("\nThe end of a window while others of its role are open");
    let mut endings = Vec::new();
    for n_others in OTHERS {
        let cost = ended_among(&mut world, &disable, &log, n_others).await?;
        print(&format!("{n_others} others"), &cost);
        endings.push(cost);
    }
    let (alone, delayed) = beside_an_unreachable_one(&mut world, &reconcile, &log).await?;
    console::say(&format!(
        "\n100 databases are looked after in {:.0} ms, and in {:.0} ms beside one that does not answer",
        alone.as_secs_f64() * 1000.0,
        delayed.as_secs_f64() * 1000.0
    ));

    let missed = missed(&rounds, &endings, alone, delayed);
    for sentence in &missed {
        console::say(&console::red(sentence));
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(Error::NotAsPromised(format!(
        "{} of what must not grow has grown; see above",
        missed.len()
    )))
}

fn print(name: &str, cost: &Cost) {
    console::say(&format!(
        "  {name:<52}{:>6} AWS calls {:>6} transactions {:>8.1} ms CPU {:>8.0} ms {:>6.1} MB",
        cost.calls,
        cost.transactions,
        cost.cpu_millis,
        cost.wall.as_secs_f64() * 1000.0,
        cost.memory_mb
    ));
}

/// What grew faster than it may, a sentence each.
fn missed(
    rounds: &[(Size, Cost)],
    endings: &[Cost],
    alone: Duration,
    delayed: Duration,
) -> Vec<String> {
    let of = |size: Size| {
        let found = rounds.iter().find(|(measured, _)| *measured == size);
        found.map(|(_, cost)| *cost)
    };
    let mut missed = Vec::new();
    let mut at_most = |what: &str, measured: Option<f64>, limit: f64| {
        if measured.is_none_or(|measured| measured > limit) {
            let measured = measured.map_or("not measured".to_owned(), |it| format!("{it:.2}"));
            missed.push(format!("{what}: {measured}, which is more than {limit}"));
        }
    };
    let ratio = |more: Size, fewer: Size, of_cost: fn(&Cost) -> f64| {
        Some(of_cost(&of(more)?) / of_cost(&of(fewer)?))
    };
    let transactions = |cost: &Cost| cost.transactions as f64;
    let calls = |cost: &Cost| cost.calls as f64;
    let tenfold = (size(100, 100, 0), size(10, 100, 0));
    at_most(
        "transactions of ten times the databases",
        ratio(tenfold.0, tenfold.1, transactions),
        10.0,
    );
    at_most(
        "AWS calls of ten times the databases",
        ratio(tenfold.0, tenfold.1, calls),
        10.0,
    );
    at_most(
        "AWS calls of ten times the windows",
        ratio(size(1, 1000, 0), size(1, 100, 0), calls),
        10.0,
    );
    at_most(
        "transactions of a thousand times the windows",
        ratio(size(1, 1000, 0), size(1, 1, 0), transactions),
        1.0,
    );
    for (with_history, without) in [
        (size(1, 1, 10_000), size(1, 1, 0)),
        (size(100, 1000, 10_000), size(100, 1000, 0)),
    ] {
        at_most(
            "AWS calls with 10,000 closed requests",
            ratio(with_history, without, calls),
            1.0,
        );
    }
    at_most(
        "memory of 100 databases and 1,000 windows, in that of one of each",
        ratio(size(100, 1000, 0), size(1, 1, 0), |cost| cost.memory_mb),
        4.0,
    );
    let first_and_last = endings.first().zip(endings.last());
    at_most(
        "AWS calls of an ending among 1,000 windows, in those of one alone",
        first_and_last.map(|(alone, among)| calls(among) / calls(alone)),
        1.0,
    );
    at_most(
        "time for 100 databases beside an unreachable one, in that without",
        Some(delayed.as_secs_f64() / alone.as_secs_f64()),
        2.0,
    );
    missed
}

async fn reconciled(world: &mut World, command: &Command, log: &Path, size: Size) -> Result<Cost> {
    world.prepare_scale(size).await?;
    let (cost, answer) = measure(world, command, log, &json!({})).await?;
    let looked_after = json!([size.databases, 0, 0, 0]);
    let seen = ["n_databases", "n_unreachable", "n_cut", "n_not_asked"].map(|name| &answer[name]);
    if json!(seen) != looked_after {
        return Err(Error::NotAsPromised(format!(
            "reconcile did not look after {size} as it should; it answered {answer}"
        )));
    }
    Ok(cost)
}

async fn ended_among(
    world: &mut World,
    command: &Command,
    log: &Path,
    n_others: usize,
) -> Result<Cost> {
    let event = world.prepare_ending(n_others).await?;
    let (cost, answer) = measure(world, command, log, &event).await?;
    let expected = if n_others == 0 {
        "closed"
    } else {
        "ended_role_still_open"
    };
    if answer["outcome"] != expected {
        return Err(Error::NotAsPromised(format!(
            "disable-login did not answer {expected}, but {answer}"
        )));
    }
    Ok(cost)
}

async fn measure(
    world: &mut World,
    command: &Command,
    log: &Path,
    event: &serde_json::Value,
) -> Result<(Cost, serde_json::Value)> {
    let before = world.transactions().await?;
    let mut lambda = Lambda::start(command, log).await?;
    let invoked = lambda.invoke(event).await?;
    let (cpu_millis, memory_mb) = (lambda.cpu_millis(), lambda.peak_memory_mb());
    drop(lambda);
    let calls = world.aws.state().calls.len();
    let cost = Cost {
        calls,
        transactions: world.transactions().await? - before,
        cpu_millis,
        wall: invoked.wall,
        memory_mb,
    };
    Ok((cost, invoked.answer))
}

/// How long it takes until 100 databases are looked after: without, and with one more that takes connections and
/// says nothing.
async fn beside_an_unreachable_one(
    world: &mut World,
    command: &Command,
    log: &Path,
) -> Result<(Duration, Duration)> {
    let size = size(100, 100, 0);
    let mut took = [Duration::ZERO; 2];
    let silent = TcpListener::bind(("127.0.0.1", 0));
    let silent = silent.await.map_err(|source| Error::Start {
        program: "a listener on a free port".to_owned(),
        source,
    })?;
    let port = silent.local_addr().map(|address| address.port());
    for (n, took) in took.iter_mut().enumerate() {
        world.prepare_scale(size).await?;
        if n == 1 {
            world.add_silent_database(*port.as_ref().unwrap_or(&0));
        }
        let mut lambda = Lambda::start(command, log).await?;
        let started = Instant::now();
        let event = json!({});
        let (invoked, last_seen) = tokio::join!(lambda.invoke(&event), world.last_work(started));
        let answer = invoked?.answer;
        let expected = json!([size.databases + n, n]);
        if json!([answer["n_databases"], answer["n_unreachable"]]) != expected {
            return Err(Error::NotAsPromised(format!(
                "reconcile did not look after the others; it answered {answer}"
            )));
        }
        *took = last_seen?;
    }
    Ok((took[0], took[1]))
}
