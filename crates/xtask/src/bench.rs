//! `cargo xtask bench`: how fast and small the functions are, beside their floor and beside what users would write
//! instead, in one run; and whether the ratios hold.
//!
//! Every subject is started afresh in each round, in rotated order, and does its real work, which is checked: on
//! PostgreSQL over TLS verify-full and SCRAM, and on an AWS over HTTPS that answers at once. CPU time is the first
//! measure: it is the same on a busy machine, and at 128 MB it is what Lambda gives a fourteenth of.

mod aws;
mod gates;
mod lambda;
mod peers;
mod plot;
mod process;
mod readme;
mod report;
mod round_trips;
mod scale;
mod serving;
mod statistics;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::console::Step;
use xtask::deploy::{self, Optimisation};
use xtask::error::{Error, Result};
use xtask::tools::Tools;
use xtask::{process as programs, workspace};

use self::aws::counted;
use self::lambda::Lambda;
use self::peers::Peers;
use self::process::CpuShare;
use self::round_trips::Counter;
use self::statistics::{Metric, Samples};
use self::world::{CORE_ROLE, Work, World};

const FLOOR: &str = "floor";
const LOGIN_CORE: &str = "login core";
const COMPUTE_WAIT: &str = "compute-wait";
const NOTIFY: &str = "notify";
const APPROVAL: &str = "approval";
const ENABLE_LOGIN: &str = "enable-login";
const DISABLE_LOGIN: &str = "disable-login";
const PYTHON_LOGIN: &str = "login core in Python";
const NODE_LOGIN: &str = "login core in Node";
const PYTHON_ENABLE: &str = "enable-login in Python";
const NODE_ENABLE: &str = "enable-login in Node";
const PSQL: &str = "psql -c ALTER ROLE";
const RAW: &str = "raw connect and ALTER";

/// Later invocations of each started process.
const N_WARM: usize = 5;
/// What is measured at the CPU share of 128 MB.
const AT_128_MB: [&str; 4] = [LOGIN_CORE, PYTHON_LOGIN, NODE_LOGIN, ENABLE_LOGIN];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What reconcile and a closing cost with more windows and more databases.
    Scale,
    /// Write the figures of the last run into README.md and docs, and measure nothing.
    Readme,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Do this instead of measuring the functions beside their peers.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Rounds; each starts every subject once.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Rounds at the CPU share of 128 MB.
    #[arg(long, default_value_t = 8)]
    throttled_rounds: usize,
    /// Print the figures as one line of JSON on standard output, last.
    #[arg(long)]
    json: bool,
    /// Measure the programs in this folder, each as NAME/bootstrap, instead of building them.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Builds, measures, reports, and fails if a gate does not hold.
pub(crate) async fn run(options: &Options) -> Result<()> {
    if options.part == Some(Part::Readme) {
        return readme::write();
    }
    let folder = workspace::make_folder(workspace::target().join("bench"))?;
    let log = folder.join("build.log");
    workspace::remove(&log)?;
    let programs = match &options.programs {
        Some(programs) => programs.clone(),
        None => build(&log).await?,
    };
    if options.part == Some(Part::Scale) {
        return scale::run(&programs, &folder).await;
    }
    let peers = Peers::install(&log).await?;
    let step = Step::begin("Start PostgreSQL and AWS");
    let mut world = World::start(&folder).await?;
    let version = world.postgres.version().to_owned();
    step.done_with(&format!("PostgreSQL {version}"));
    let facts_sql = folder.join("facts.json");
    let bound = access_postgres::FACTS_SQL
        .map(|sql| sql.replace("$1", &(access_postgres::MAX_FACTS + 1).to_string()));
    workspace::write(&facts_sql, &serde_json::json!(bound).to_string())?;

    let mut bench = Bench {
        subjects: subjects(&programs, &peers, &world, &facts_sql),
        folder: folder.clone(),
        programs,
        samples: Samples::default(),
        calls: Vec::new(),
    };
    let load_before = load();
    bench.sizes()?;
    let step = Step::begin("Check that everybody does their work, and count calls");
    let round_trips = bench.check_all(&mut world).await?;
    step.done();
    let step = Step::begin(&format!("Measure, {} rounds", options.rounds));
    for round in 0..options.rounds {
        bench.round(&mut world, round).await?;
        bench.closing(&mut world).await?;
    }
    step.done();
    let step = Step::begin(&format!(
        "Measure at 128 MB, {} rounds",
        options.throttled_rounds
    ));
    for round in 0..options.throttled_rounds {
        bench.throttled_round(&mut world, round).await?;
    }
    step.done();

    let gates = gates::gates(&bench.samples, Some(round_trips));
    let facts = report::Facts {
        machine: report::machine(),
        postgres: version,
        load_before,
        load_after: load(),
        rounds: options.rounds,
        missing: peers.missing.clone(),
    };
    let subjects: Vec<&str> = bench.subjects.iter().map(|subject| subject.name).collect();
    report::print(&bench.samples, &subjects, &gates, &facts, &bench.calls);
    let summary = report::as_json(&bench.samples, &subjects, &gates, &facts, &bench.calls);
    workspace::write(&folder.join("bench.json"), &summary.to_string())?;
    workspace::write(&folder.join("bench.svg"), &plot::svg(&summary))?;
    if options.json {
        report::print_json(&summary);
    }
    let missed = gates.iter().filter(|gate| !gate.is_met()).count();
    if missed > 0 {
        return Err(Error::NotAsPromised(format!(
            "{missed} of {} gates do not hold; they are marked above",
            gates.len()
        )));
    }
    Ok(())
}

/// Builds the functions as for production, and in the same way the programs that only the bench has.
async fn build(log: &Path) -> Result<PathBuf> {
    let tools = Tools::ensure().await?;
    deploy::compile(&tools, Optimisation::Production, log).await?;
    let mut examples = tools.command("cargo");
    examples.args(["lambda", "build", "--release", "--locked"]);
    // Named together with the functions, they get the same features, and so the same build of the AWS SDKs.
    for package in workspace::FUNCTIONS {
        examples.args(["--package", package]);
    }
    for (package, example) in [
        ("lambda-shell", "floor"),
        ("database-shell", "login-core"),
        ("access-postgres", "raw-connect"),
    ] {
        examples.args(["--package", package, "--example", example]);
    }
    examples.env("CARGO_LAMBDA_COMPILER", "cargo");
    programs::run_step("Compile what they are measured by", log, examples).await?;
    Ok(workspace::target().join("lambda"))
}

/// A Lambda function that is measured.
struct Subject {
    name: &'static str,
    work: Work,
    command: Command,
}

fn subjects(programs: &Path, peers: &Peers, world: &World, facts_sql: &Path) -> Vec<Subject> {
    let ours = |name: &str| Some(Command::new(programs.join(name).join("bootstrap")));
    let all = [
        (FLOOR, Work::Nothing, ours("floor")),
        (LOGIN_CORE, Work::LoginCore, ours("login-core")),
        (COMPUTE_WAIT, Work::TakeIn, ours("compute-wait")),
        (NOTIFY, Work::Ask, ours("notify")),
        (APPROVAL, Work::Approve, ours("approval")),
        (ENABLE_LOGIN, Work::Open, ours("enable-login")),
        (DISABLE_LOGIN, Work::Close, ours("disable-login")),
        (PYTHON_LOGIN, Work::LoginCore, peers.python("login_core")),
        (NODE_LOGIN, Work::LoginCore, peers.node("login_core")),
        (PYTHON_ENABLE, Work::Open, peers.python("enable_login")),
        (NODE_ENABLE, Work::Open, peers.node("enable_login")),
    ];
    all.into_iter()
        .filter_map(|(name, work, command)| {
            let mut command = command?;
            world.equip(&mut command);
            command.env("BENCH_FACTS_SQL", facts_sql);
            Some(Subject {
                name,
                work,
                command,
            })
        })
        .collect()
}

struct Bench {
    subjects: Vec<Subject>,
    folder: PathBuf,
    programs: PathBuf,
    samples: Samples,
    /// Each subject's AWS calls, and how many times it made each.
    calls: Vec<(&'static str, String)>,
}

impl Bench {
    fn log(&self) -> PathBuf {
        self.folder.join("subject.log")
    }

    fn sizes(&mut self) -> Result<()> {
        for subject in &self.subjects {
            let program = Path::new(subject.command.get_program());
            if !program.starts_with(&self.programs) {
                continue;
            }
            let size = std::fs::metadata(program).map_err(|source| Error::File {
                action: "measure",
                path: program.to_owned(),
                source,
            })?;
            // Compressed as a zip is; the archive's own headers are some 130 bytes.
            let compressed = Command::new("gzip")
                .args(["--stdout", "-6"])
                .arg(program)
                .stderr(Stdio::null())
                .output()
                .map_err(|source| Error::Start {
                    program: "gzip".to_owned(),
                    source,
                })?;
            let megabytes = |bytes: u64| bytes as f64 / 1_048_576.0;
            self.samples
                .add(subject.name, Metric::Binary, megabytes(size.len()));
            self.samples.add(
                subject.name,
                Metric::Zip,
                megabytes(compressed.stdout.len() as u64),
            );
        }
        Ok(())
    }

    /// Once through, unmeasured: everybody's answer is right, programs are in the page cache, calls are counted. Then
    /// the round trips of the login core's first connection.
    async fn check_all(&mut self, world: &mut World) -> Result<u32> {
        for subject in &self.subjects {
            let event = world.prepare(subject.work).await?;
            let mut lambda = Lambda::start(&subject.command, &self.log()).await?;
            let invoked = lambda.invoke(&event).await?;
            world.check(subject.work, &invoked.answer).await?;
            let calls = world.aws.state().calls.clone();
            let listed: Vec<String> = counted(&calls)
                .into_iter()
                .map(|(name, n)| format!("{name} {n}"))
                .collect();
            self.calls.push((subject.name, listed.join(", ")));
        }
        self.expect_call_for_call()?;
        let counter = Counter::start(world.postgres.port()).await?;
        let Some(core) = self
            .subjects
            .iter()
            .find(|subject| subject.name == LOGIN_CORE)
        else {
            return Ok(0);
        };
        let mut command = Command::new(core.command.get_program());
        world.equip(&mut command);
        command.env("BENCH_PORT", counter.port.to_string());
        let event = world.prepare(Work::LoginCore).await?;
        let mut lambda = Lambda::start(&command, &self.log()).await?;
        let invoked = lambda.invoke(&event).await?;
        world.check(Work::LoginCore, &invoked.answer).await?;
        Ok(counter.round_trips())
    }

    /// A peer that makes fewer calls than we do would look better than it is, and the other way round.
    fn expect_call_for_call(&self) -> Result<()> {
        let calls = |name: &str| {
            let found = self.calls.iter().find(|(subject, _)| *subject == name);
            found.map(|(_, calls)| calls.as_str())
        };
        for (peer, ours) in [
            (PYTHON_LOGIN, LOGIN_CORE),
            (NODE_LOGIN, LOGIN_CORE),
            (PYTHON_ENABLE, ENABLE_LOGIN),
            (NODE_ENABLE, ENABLE_LOGIN),
        ] {
            if let (Some(theirs), Some(ours_calls)) = (calls(peer), calls(ours))
                && theirs != ours_calls
            {
                return Err(Error::NotAsPromised(format!(
                    "{peer} calls AWS otherwise than {ours} does, so they cannot be compared; mend tests/bench/peers.\n\
                     {peer}: {theirs}\n{ours}: {ours_calls}"
                )));
            }
        }
        Ok(())
    }

    /// Every subject once, each round beginning with another one, and psql and the raw connection.
    async fn round(&mut self, world: &mut World, round: usize) -> Result<()> {
        for n in 0..self.subjects.len() {
            let n = (n + round) % self.subjects.len();
            self.measure(world, n).await?;
        }
        self.psql(world)?;
        self.raw(world)
    }

    async fn measure(&mut self, world: &mut World, n: usize) -> Result<()> {
        let subject = &self.subjects[n];
        let (name, work) = (subject.name, subject.work);
        let event = world.prepare(work).await?;
        let mut lambda = Lambda::start(&subject.command, &self.log()).await?;
        let first = lambda.invoke(&event).await?;
        let cold_cpu = lambda.cpu_millis();
        world.check(work, &first.answer).await?;
        self.samples.add(name, Metric::Init, millis(lambda.init));
        self.samples.add(name, Metric::First, millis(first.wall));
        self.samples
            .add(name, Metric::Cold, millis(lambda.init + first.wall));
        self.samples.add(name, Metric::ColdCpu, cold_cpu);
        for _ in 0..N_WARM {
            let event = world.prepare(work).await?;
            let before = lambda.cpu_millis();
            let warm = lambda.invoke(&event).await?;
            let cpu = lambda.cpu_millis() - before;
            world.check(work, &warm.answer).await?;
            self.samples.add(name, Metric::Warm, millis(warm.wall));
            self.samples.add(name, Metric::WarmCpu, cpu);
        }
        self.samples
            .add(name, Metric::Memory, lambda.peak_memory_mb());
        Ok(())
    }

    /// The seed's way: one psql for each statement.
    fn psql(&mut self, world: &World) -> Result<()> {
        let master = &world.postgres.accounts().master;
        let mut psql = Command::new("psql");
        psql.arg(format!(
            "host={} port={} dbname=latchkey user={} sslmode=verify-full sslrootcert={}",
            world.postgres.host(),
            world.postgres.port(),
            master.user,
            world.database_ca.display()
        ))
        .args(["-X", "-q", "-c", &format!("ALTER ROLE {CORE_ROLE} NOLOGIN")])
        .env("PGPASSWORD", &master.password)
        .stdin(Stdio::null());
        let failed = |source| Error::Start {
            program: "psql".to_owned(),
            source,
        };
        let started = Instant::now();
        let mut child = psql.spawn().map_err(failed)?;
        // An ended process that nobody has waited for still says what it used.
        rustix::process::waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .map_err(|error| failed(error.into()))?;
        let (wall, cpu) = (started.elapsed(), process::cpu_millis(child.id()));
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(Error::NotAsPromised(format!("psql failed ({status})")));
        }
        self.samples.add(PSQL, Metric::Cold, millis(wall));
        self.samples.add(PSQL, Metric::ColdCpu, cpu);
        Ok(())
    }

    /// What no login can do without, in one process.
    fn raw(&mut self, world: &World) -> Result<()> {
        let mut raw = Command::new(self.programs.join("raw-connect/bootstrap"));
        world.equip(&mut raw);
        let failed = |source| Error::Start {
            program: "raw-connect".to_owned(),
            source,
        };
        let output = raw
            .env("BENCH_PASSWORD", world.postgres.closer_password())
            .env("BENCH_TIMES", (N_WARM + 1).to_string())
            .stderr(Stdio::inherit())
            .output()
            .map_err(failed)?;
        if !output.status.success() {
            return Err(Error::NotAsPromised(format!(
                "the raw connection failed ({})",
                output.status
            )));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        // The first one also fills the process's caches.
        for line in printed.lines().skip(1) {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let millis = |name: &str| line[name].as_f64().unwrap_or_default() / 1e6;
            self.samples.add(RAW, Metric::Warm, millis("wall_ns"));
            self.samples.add(RAW, Metric::WarmCpu, millis("cpu_ns"));
        }
        Ok(())
    }

    /// A window ends while a session lasts: how soon nobody can log in, and when the session is gone.
    async fn closing(&mut self, world: &mut World) -> Result<()> {
        let Some(subject) = self
            .subjects
            .iter()
            .find(|subject| subject.name == DISABLE_LOGIN)
        else {
            return Ok(());
        };
        let event = world.prepare(Work::Close).await?;
        let (_session, watcher) = (world.session_of_the_role().await?, world.watcher().await?);
        let started = Instant::now();
        let closing = async {
            let mut lambda = Lambda::start(&subject.command, &self.log()).await?;
            let invoked = lambda.invoke(&event).await?;
            Ok::<_, Error>((lambda, invoked))
        };
        let (watched, closed) = tokio::join!(watcher.watch_closing(), closing);
        let ((refused, gone), (mut lambda, invoked)) = (watched?, closed?);
        world.check(Work::Close, &invoked.answer).await?;
        self.samples.add(
            DISABLE_LOGIN,
            Metric::RefusedCold,
            millis(refused - started),
        );
        self.samples
            .add(DISABLE_LOGIN, Metric::GoneCold, millis(gone - started));

        let event = world.prepare(Work::Close).await?;
        let _session = world.session_of_the_role().await?;
        let started = Instant::now();
        let (watched, closed) = tokio::join!(watcher.watch_closing(), lambda.invoke(&event));
        let ((refused, gone), invoked) = (watched?, closed?);
        world.check(Work::Close, &invoked.answer).await?;
        self.samples.add(
            DISABLE_LOGIN,
            Metric::RefusedWarm,
            millis(refused - started),
        );
        self.samples
            .add(DISABLE_LOGIN, Metric::GoneWarm, millis(gone - started));
        Ok(())
    }

    /// The start has a whole CPU, as on Lambda; from the first event on there is a fourteenth of one.
    async fn throttled_round(&mut self, world: &mut World, round: usize) -> Result<()> {
        for n in 0..AT_128_MB.len() {
            let name = AT_128_MB[(n + round) % AT_128_MB.len()];
            let Some(subject) = self.subjects.iter().find(|subject| subject.name == name) else {
                continue;
            };
            let event = world.prepare(subject.work).await?;
            let mut lambda = Lambda::start(&subject.command, &self.log()).await?;
            let share = CpuShare::of_memory(128)?;
            share.hold(lambda.process_id())?;
            let first = lambda.invoke(&event).await?;
            world.check(subject.work, &first.answer).await?;
            self.samples.add(name, Metric::First128, millis(first.wall));
            self.samples
                .add(name, Metric::Cold128, millis(lambda.init + first.wall));
            drop(lambda);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Processes that wanted to run, on average over the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
