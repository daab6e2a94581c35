//! `cargo xtask demo`: one whole access window on real parts, seen from outside.
//!
//! The story goes to standard error; with `--json` the observations go to standard output, on its last line.

use std::io::Write;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use xtask::callback;
use xtask::console::{self, bold, dim, green, red};
use xtask::cost::Used;
use xtask::deploy::Optimisation;
use xtask::error::{Error, Result};
use xtask::login_probe::{Attempt, Session};
use xtask::ministack::Keys;
use xtask::postgres::{APPLICATION_DATABASE, LATCHKEY_DATABASE};
use xtask::records::{History, RequestRow};
use xtask::stack::{APPROVERS, Ended, Execution, REQUESTER, Stack, TARGET};
use xtask::window_password::{self, ReadCommand};
use xtask::workspace;

use kind::{Kind, State};

mod assume_role;
mod kind;

/// A person may take this long to approve; the demo's catalogue gives the same time.
const APPROVED_WITHIN: Duration = Duration::from_secs(600);
/// A step of the state machine takes at most this long on a slow machine.
const STEP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// How to show it.
#[derive(Args)]
pub(crate) struct Options {
    /// The kind of access to show.
    #[arg(long, value_enum, default_value = "login")]
    kind: Shown,
    /// Approve without a person, through the same page.
    #[arg(long)]
    approve: bool,
    /// Length of the window: 20s, 2m.
    #[arg(long, default_value = "20s", value_parser = parse_window)]
    window: Duration,
    /// Leave everything running at the end, and say how to use it with the AWS command line.
    #[arg(long)]
    keep: bool,
    /// Build the functions without optimisation: seconds instead of minutes after a change.
    #[arg(long)]
    quick: bool,
    /// Print what was observed as one JSON object on the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// A kind of access that can be shown.
#[derive(Clone, Copy, ValueEnum)]
enum Shown {
    /// LOGIN of a privileged PostgreSQL user, with a password of the window's own.
    Login,
    /// Membership of a PostgreSQL user in a privileged role.
    Membership,
    /// A privileged role of another AWS account.
    AssumeRole,
}

impl Shown {
    /// The same, if it is access to a database.
    fn of_database(self) -> Option<Kind> {
        match self {
            Self::Login => Some(Kind::Login),
            Self::Membership => Some(Kind::Membership),
            Self::AssumeRole => None,
        }
    }
}

/// What is told of it at the end.
struct Told {
    /// Every promise that did not hold, as a sentence.
    problems: Vec<String>,
    /// What is said if there is none.
    held: String,
    /// What was observed.
    json: Value,
}

impl Told {
    fn say(&self) {
        console::say("");
        if self.problems.is_empty() {
            console::say(&green(&self.held));
        }
        for problem in &self.problems {
            console::say(&red(&format!("Not as promised: {problem}")));
        }
    }
}

/// Shows one window from the request to the proof of its end.
///
/// # Errors
/// [`Error::NotAsPromised`] if any observation does not hold, and whatever stopped the demo.
pub(crate) async fn run(options: &Options) -> Result<()> {
    console::heading("Latchkey: privileged access that opens only for an approved window");
    let optimisation = if options.quick {
        Optimisation::Quick
    } else {
        Optimisation::of_environment()
    };
    let stack = Stack::start("demo", optimisation).await?;
    let kind = options.kind.of_database();
    let told = match kind {
        Some(kind) => show(&stack, kind, options).await,
        None => assume_role::show(&stack, options).await,
    };
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            let logs = stack.save_function_logs().await?;
            console::say(&dim(&format!(
                "what the functions logged is in {}",
                logs.display()
            )));
            return Err(error);
        }
    };
    told.say();
    if options.json {
        // Nobody is left to read it when standard output is gone.
        let _ = writeln!(std::io::stdout(), "{}", told.json);
    }
    if options.keep {
        keep(&stack, kind).await?;
    }
    if told.problems.is_empty() {
        Ok(())
    } else {
        Err(Error::NotAsPromised(told.problems.join("; ")))
    }
}

/// What was seen from outside.
struct Observed {
    kind: Kind,
    request_id: String,
    before: Seen,
    during: Seen,
    after: Seen,
    /// When the server gave access first.
    opened_at: DateTime<Utc>,
    /// The end of the window, as the database enforces it.
    end: DateTime<Utc>,
    session_cut_at: DateTime<Utc>,
    refused_at: DateTime<Utc>,
    /// When neither the access nor a session that used it was left.
    closed_at: DateTime<Utc>,
    sessions_after: i64,
    lag: Lag,
    /// Whether the requester still finds the window's password, if it had one.
    secret_after: Option<&'static str>,
    messages: Vec<String>,
    ended: Ended,
    /// What it used of AWS; read only where it is printed.
    used: Option<Used>,
    took: Vec<(&'static str, Duration)>,
}

/// How long after the end of the window things happened, by the records of the one who did them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lag {
    /// From the end to the refusal of logins, to the end of the last visible session, and to the proof.
    milestones: [(&'static str, Option<TimeDelta>); 3],
    /// What the last of them is made of, in order.
    parts: [(&'static str, Option<TimeDelta>); 6],
}

impl Lag {
    /// Waiting ends when the state machine enters Disable Login; the rest is as disable-login recorded it.
    fn read(end: DateTime<Utc>, history: &History, row: Option<&RequestRow>) -> Self {
        let moment = |name| row.and_then(|row| row.closing_moment(name));
        let invoked_at = moment("invoked_at");
        let closing = history
            .calls
            .iter()
            .rev()
            .find(|call| call.state == "Disable Login" && Some(call.made_at) <= invoked_at);
        let moments = [
            Some(end),
            closing.map(|call| call.entered_at),
            invoked_at,
            moment("connected_at"),
            moment("login_refused_at"),
            moment("sessions_gone_at"),
            moment("at"),
        ];
        let since_end = |at: Option<DateTime<Utc>>| Some(at? - end);
        let part = |n: usize| Some(moments[n + 1]? - moments[n]?);
        Self {
            milestones: [
                ("login_refused", since_end(moments[4])),
                ("sessions_gone", since_end(moments[5])),
                ("proved_closed", since_end(moments[6])),
            ],
            parts: [
                ("wait", part(0)),
                ("invoke", part(1)),
                ("connect", part(2)),
                ("disable", part(3)),
                ("sweep", part(4)),
                ("verify", part(5)),
            ],
        }
    }

    fn lines(&self) -> [String; 2] {
        let list = |lags: &[(&str, Option<TimeDelta>)]| {
            let words: Vec<String> = lags
                .iter()
                .map(|(name, lag)| match lag {
                    Some(lag) => format!("{name} {} ms", lag.num_milliseconds()),
                    None => format!("{name} unknown"),
                })
                .collect();
            words.join(", ").replace('_', " ")
        };
        [
            format!("  after the end: {}", list(&self.milestones)),
            format!("  made of: {}", list(&self.parts)),
        ]
    }

    fn as_json(&self) -> Value {
        let object = |lags: &[(&str, Option<TimeDelta>)]| -> serde_json::Map<String, Value> {
            lags.iter()
                .map(|(name, lag)| {
                    (
                        (*name).to_owned(),
                        json!(lag.map(|lag| lag.num_milliseconds())),
                    )
                })
                .collect()
        };
        let mut json = object(&self.milestones);
        json.insert("parts".to_owned(), Value::Object(object(&self.parts)));
        Value::Object(json)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Accepted,
    Refused,
}

impl Seen {
    fn of(attempt: &Attempt) -> Self {
        if attempt.is_accepted() {
            Self::Accepted
        } else {
            Self::Refused
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

async fn show(stack: &Stack, kind: Kind, options: &Options) -> Result<Told> {
    let mut took = Vec::new();
    let mut since = Instant::now();
    let mut lap = |name: &'static str| {
        took.push((name, since.elapsed()));
        since = Instant::now();
    };

    kind.register(stack).await?;

    console::heading("Before");
    let attempt = kind.attempt(stack, None).await?;
    let before = Seen::of(&attempt);
    say_attempt(kind, &attempt);

    let asked_at = Utc::now();
    console::heading("The request");
    let request = kind.request(&format!("PT{}S", options.window.as_secs()));
    let execution = stack.ask_as_requester(&request).await?;
    console::say(&format!(
        "  {REQUESTER} asks for {} on {TARGET} for {}",
        bold(kind.name()),
        console::seconds(options.window)
    ));
    console::say(&format!(
        "  because: {}",
        request["reason"].as_str().unwrap_or_default()
    ));
    let approver = APPROVERS[0];
    let inbox = stack.inbox(approver)?;
    let asked = inbox.next(STEP_WITHIN, |message| message.decision_link().is_some());
    let message = or_what_went_wrong(stack, &execution, asked).await?;
    let link = message.decision_link().unwrap_or_default().to_owned();
    console::say(&format!(
        "  {approver} gets a message: {}",
        dim(&message.subject)
    ));
    lap("request");

    console::heading("The decision");
    console::say(&format!("  {link}"));
    decide(stack, &execution, &link, kind.name(), options).await?;
    lap("decision");

    console::heading("During");
    let opened_at = or_what_went_wrong(stack, &execution, wait_until_open(stack, kind)).await?;
    let told = told_that_it_is_open(stack, kind);
    let (subject, read) = or_what_went_wrong(stack, &execution, told).await?;
    console::say(&format!("  {REQUESTER} gets a message: {}", dim(&subject)));
    let password = match &read {
        Some(read) => Some(read_password(stack, read).await?),
        None => None,
    };
    let password = password.as_deref();
    let attempt = kind.attempt(stack, password).await?;
    let during = Seen::of(&attempt);
    say_attempt(kind, &attempt);
    let end = open_until(stack, kind).await?;
    let Attempt::Accepted(session) = attempt else {
        return Err(Error::NotAsPromised(
            "access was refused during the window".to_owned(),
        ));
    };
    let answer = session
        .query_text("SELECT current_user || ' reads ' || current_database()")
        .await?;
    console::say(&format!(
        "  a session runs a query: {answer}, and stays open"
    ));
    console::say(&format!("  the window ends at {}", clock(end)));
    lap("open");

    let (session_cut_at, refused_at, closed_at) = tokio::try_join!(
        watch_session(session, end),
        watch_attempts(stack, kind, password, end),
        watch_server(stack, kind, end)
    )?;
    lap("window");

    console::heading("After");
    console::say(&format!(
        "  the session was cut {} after the end",
        lag(end, session_cut_at)
    ));
    console::say(&format!(
        "  access was refused {} after the end",
        lag(end, refused_at)
    ));
    console::say(&format!(
        "  neither the access nor a session that used it was left {} after the end",
        lag(end, closed_at)
    ));
    let ended = stack.wait_for_end(&execution, STEP_WITHIN).await?;
    let attempt = kind.attempt(stack, password).await?;
    let after = Seen::of(&attempt);
    say_attempt(kind, &attempt);
    let sessions_after = look(stack, kind, end).await?.n_sessions;
    let request_id = ended.output["request_id"].as_str().unwrap_or_default();
    let row = stack.request_row(request_id).await?;
    let lag = Lag::read(end, &stack.history(&execution).await?, row.as_ref());
    for line in lag.lines() {
        console::say(&line);
    }
    let secret_after = match &read {
        Some(read) => Some(match read.run(stack, stack.requester_keys()).await {
            Ok(_) => "there",
            Err(_) => "gone",
        }),
        None => None,
    };
    if let Some(secret_after) = secret_after {
        console::say(&format!("  the secret with the password is {secret_after}"));
    }
    let mut messages = vec![subject];
    for message in stack.inbox(REQUESTER)?.take_all(|_| true).await? {
        console::say(&format!(
            "  {REQUESTER} gets a message: {}",
            dim(&message.subject)
        ));
        messages.push(message.subject);
    }
    lap("close");
    let used = match options.json {
        true => Some(stack.used(&execution, asked_at).await?),
        false => None,
    };

    let observed = Observed {
        kind,
        request_id: request_id.to_owned(),
        before,
        during,
        after,
        opened_at,
        end,
        session_cut_at,
        refused_at,
        closed_at,
        sessions_after,
        lag,
        secret_after,
        messages,
        ended,
        used,
        took,
    };
    Ok(observed.told(options.window, stack))
}

impl Observed {
    /// From the end of the window until the last of: session cut, access refused, nothing left.
    fn close_lag(&self) -> TimeDelta {
        let last = self.session_cut_at.max(self.refused_at).max(self.closed_at);
        last - self.end
    }

    /// Every promise that did not hold, as a sentence.
    fn problems(&self, window: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        expect(
            self.before == Seen::Refused,
            "access was given before the window".to_owned(),
        );
        expect(
            self.during == Seen::Accepted,
            "access was refused during the window".to_owned(),
        );
        expect(
            self.after == Seen::Refused,
            "access was given after the window".to_owned(),
        );
        expect(
            self.sessions_after == 0,
            format!(
                "{} sessions were left after the window",
                self.sessions_after
            ),
        );
        expect(
            self.secret_after != Some("there"),
            "the secret with the password was left after the window".to_owned(),
        );
        expect(
            self.session_cut_at >= self.end,
            format!(
                "the session was cut {} before the end",
                lag(self.session_cut_at, self.end)
            ),
        );
        expect(
            self.closed_at >= self.end,
            format!(
                "access was closed {} before the end",
                lag(self.closed_at, self.end)
            ),
        );
        let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX);
        expect(
            self.opened_at + window >= self.end,
            format!(
                "access was opened {} before the start",
                lag(self.opened_at, self.end - window)
            ),
        );
        for (name, lag) in self.lag.milestones.iter().chain(&self.lag.parts) {
            expect(
                lag.is_some(),
                format!("the records do not say how long it took: {name}"),
            );
        }
        expect(
            self.ended.status == "SUCCEEDED" && self.ended.outcome() == "closed",
            format!(
                "the execution ended {}: {} {:?}",
                self.ended.status, self.ended.output, self.ended.error
            ),
        );
        problems
    }

    fn told(&self, window: Duration, stack: &Stack) -> Told {
        let problems = self.problems(window);
        Told {
            held: format!(
                "Everything held: refused, accepted, refused; closed and proved {} ms after the end.",
                self.close_lag().num_milliseconds()
            ),
            json: self.as_json(&problems, stack),
            problems,
        }
    }

    fn as_json(&self, problems: &[String], stack: &Stack) -> Value {
        let lag_ms = |at: DateTime<Utc>| (at - self.end).num_milliseconds();
        let steps: serde_json::Map<String, Value> = stack
            .setup_took()
            .iter()
            .chain(&self.took)
            .map(|(name, took)| {
                (
                    (*name).to_owned(),
                    json!((took.as_secs_f64() * 1000.0).round() / 1000.0),
                )
            })
            .collect();
        json!({
            "holds": problems.is_empty(),
            "problems": problems,
            "request_id": self.request_id,
            "outcome": self.ended.outcome(),
            "kind": self.kind.as_str(),
            self.kind.key("before"): self.before.as_str(),
            self.kind.key("during"): self.during.as_str(),
            self.kind.key("after"): self.after.as_str(),
            "sessions_after": self.sessions_after,
            "secret_after": self.secret_after,
            "opened_at": self.opened_at,
            "end": self.end,
            "close_lag_ms": self.close_lag().num_milliseconds(),
            "session_cut_lag_ms": lag_ms(self.session_cut_at),
            self.kind.key("refused_lag_ms"): lag_ms(self.refused_at),
            "nothing_left_lag_ms": lag_ms(self.closed_at),
            "execution_ended_lag_ms": lag_ms(self.ended.at),
            "lag_ms": self.lag.as_json(),
            "messages_to_requester": self.messages,
            "used": self.used.as_ref().map(Used::as_json),
            "step_seconds": steps,
        })
    }
}

/// Approves by itself, or waits until a person has: in the browser, or with Enter here.
async fn decide(
    stack: &Stack,
    execution: &Execution,
    link: &str,
    role: &str,
    options: &Options,
) -> Result<()> {
    if options.approve {
        return approve(link, role).await;
    }
    console::say(
        "  Open the link in a browser and decide there, or press Enter to approve from here.",
    );
    tokio::select! {
        () = enter_pressed() => approve(link, role).await,
        settled = stack.wait_for_state(execution, "Approved?", APPROVED_WITHIN) => settled.map(drop),
    }
}

/// Approves through the page: looks at it, then sends its form.
async fn approve(link: &str, role: &str) -> Result<()> {
    let page = callback::get(link).await?;
    if page.status != 200 {
        return Err(Error::NotAsPromised(format!(
            "the approval page answered {}",
            page.status
        )));
    }
    let answer = callback::approve(link, role, "fine for the repair").await?;
    if answer.status != 200 {
        return Err(Error::NotAsPromised(format!(
            "the approval was answered with {}",
            answer.status
        )));
    }
    console::say("  approved through the page");
    Ok(())
}

/// Waits for Enter; for ever where nobody can press it.
async fn enter_pressed() {
    let (pressed, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for it at the end.
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin()
            .read_line(&mut line)
            .is_ok_and(|n_bytes| n_bytes > 0)
        {
            // Nobody waits any more when the decision came from the browser.
            let _ = pressed.send(());
        }
    });
    if wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The message that it is open, and how to read the password, if the window has one.
async fn told_that_it_is_open(stack: &Stack, kind: Kind) -> Result<(String, Option<ReadCommand>)> {
    match kind {
        Kind::Login => {
            let (message, read) = window_password::told(stack, kind.name(), STEP_WITHIN).await?;
            Ok((message.subject, Some(read)))
        }
        Kind::Membership => {
            let is_it = |message: &xtask::inbox::Message| {
                message.is_about(kind.name()) && message.subject.contains("membership given")
            };
            let message = stack.inbox(REQUESTER)?.next(STEP_WITHIN, is_it).await?;
            Ok((message.subject, None))
        }
    }
}

async fn read_password(stack: &Stack, read: &ReadCommand) -> Result<String> {
    let secret = read.run(stack, stack.requester_keys()).await?;
    let password = secret["password"].as_str().unwrap_or_default().to_owned();
    console::say(&format!(
        "  {REQUESTER} reads the password of this window: {} characters in {}",
        password.len(),
        dim(read.secret_name())
    ));
    Ok(password)
}

async fn look(stack: &Stack, kind: Kind, before: DateTime<Utc>) -> Result<State> {
    kind.look(&observer(stack).await?, before).await
}

async fn observer(stack: &Stack) -> Result<tokio_postgres::Client> {
    let superuser = &stack.postgres().accounts().superuser;
    stack
        .postgres()
        .log_in(superuser, LATCHKEY_DATABASE)
        .await
        .map_err(|source| Error::Postgres {
            action: "log in to watch the server".to_owned(),
            source: Box::new(source),
        })
}

async fn wait_until_open(stack: &Stack, kind: Kind) -> Result<DateTime<Utc>> {
    let observer = observer(stack).await?;
    let started = Instant::now();
    while started.elapsed() < STEP_WITHIN {
        if kind.look(&observer, Utc::now()).await?.is_open {
            return Ok(Utc::now());
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    Err(Error::Waited {
        what: "the opening".to_owned(),
        waited: STEP_WITHIN,
        last_seen: None,
    })
}

async fn open_until(stack: &Stack, kind: Kind) -> Result<DateTime<Utc>> {
    let state = look(stack, kind, Utc::now()).await?;
    state
        .until
        .ok_or_else(|| Error::NotAsPromised("what is open has no end in the database".to_owned()))
}

async fn watch_session(session: Session, end: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let cut = session.cut(until(end) + STEP_WITHIN).await?;
    Ok(cut.at)
}

/// Tries from the end on, until access is refused.
async fn watch_attempts(
    stack: &Stack,
    kind: Kind,
    password: Option<&str>,
    end: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    count_down(end).await;
    let started = Instant::now();
    while started.elapsed() < STEP_WITHIN {
        match kind.attempt(stack, password).await {
            Ok(attempt) if !attempt.is_accepted() => return Ok(Utc::now()),
            Ok(_) => {}
            // A session that is ended between logging in and acting as the role.
            Err(_) if kind == Kind::Membership => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    Err(Error::Waited {
        what: "the refusal".to_owned(),
        waited: STEP_WITHIN,
        last_seen: None,
    })
}

/// Watches the server all along, until it shows neither the access nor a session that used it.
async fn watch_server(stack: &Stack, kind: Kind, end: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let observer = observer(stack).await?;
    let at_most = until(end) + STEP_WITHIN;
    let started = Instant::now();
    while started.elapsed() < at_most {
        let state = kind.look(&observer, end).await?;
        if !state.is_open && state.n_sessions == 0 {
            return Ok(Utc::now());
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    Err(Error::Waited {
        what: "the closing".to_owned(),
        waited: at_most,
        last_seen: None,
    })
}

/// Sleeps until `end`, and shows on a terminal how long that still is.
async fn count_down(end: DateTime<Utc>) {
    loop {
        let left = until(end);
        if left.is_zero() {
            break;
        }
        if console::on_terminal() {
            console::show_in_place(&format!("  open for another {} s", left.as_secs() + 1));
        }
        tokio::time::sleep(left.min(Duration::from_millis(250))).await;
    }
    if console::on_terminal() {
        console::show_in_place("");
    }
}

/// Waits for `step`; if it does not come, says how the execution ended, because that is the reason.
async fn or_what_went_wrong<T>(
    stack: &Stack,
    execution: &Execution,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        result = step => result,
        ended = stack.wait_for_end(execution, APPROVED_WITHIN) => {
            let ended = ended?;
            let error = ended.error.map(|(name, cause)| format!("{name}: {cause}")).unwrap_or_default();
            Err(Error::NotAsPromised(format!(
                "the execution ended early, {}: {} {error}",
                ended.status, ended.output
            )))
        }
    }
}

async fn keep(stack: &Stack, kind: Option<Kind>) -> Result<()> {
    console::heading(
        "The stack stays up until you press Enter or Ctrl-C. To use it from another terminal:",
    );
    for (name, value) in stack.aws().environment(&Keys::of_root()) {
        console::say(&format!("export {name}={value}"));
    }
    let aws = stack.aws().tools().program("aws");
    if let Some(kind) = kind {
        let request = kind.request("PT2M");
        console::say(&format!(
            "{} stepfunctions start-execution --state-machine-arn {} --input '{request}'",
            aws.display(),
            stack.output("StateMachineArn")?
        ));
    }
    console::say(&format!(
        "{} sqs receive-message --endpoint-url {} --queue-url {}",
        aws.display(),
        stack.aws().endpoint(),
        stack.inbox(APPROVERS[0])?.queue_url()
    ));
    if let Some(kind) = kind {
        let ca = stack.folder().join("postgres-ca.pem");
        workspace::write(&ca, stack.postgres().ca_pem())?;
        console::say(&format!(
            "psql 'host={} port={} dbname={APPLICATION_DATABASE} user={} sslmode=verify-full sslrootcert={}'    # the password of a login is in the message that says it is open",
            stack.postgres().host(),
            stack.postgres().port(),
            kind.user(),
            ca.display()
        ));
    }
    let logs = stack.folder().join("log");
    console::say(&dim(&format!("logs: {}", logs.display())));
    enter_pressed().await;
    Ok(())
}

fn say_attempt(kind: Kind, attempt: &Attempt) {
    let answer = match attempt {
        Attempt::Accepted(_) => green("accepted"),
        Attempt::Refused { sqlstate } => format!("{} (SQLSTATE {sqlstate})", red("refused")),
    };
    console::say(&format!("  {}: {answer}", kind.attempt_in_words()));
}

fn until(end: DateTime<Utc>) -> Duration {
    (end - Utc::now()).to_std().unwrap_or_default()
}

fn lag(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    format!("{} ms", (to - from).num_milliseconds())
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S UTC").to_string()
}

/// Reads `20s` or `2m`: long enough to see something, short enough for the demo's catalogue.
fn parse_window(text: &str) -> std::result::Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .len(),
    );
    let number: u64 = number
        .parse()
        .map_err(|_| "say a number and s or m, such as 20s".to_owned())?;
    let seconds = match unit {
        "s" => number,
        "m" => number.saturating_mul(60),
        _ => return Err("say a number and s or m, such as 20s".to_owned()),
    };
    if (5..=3600).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("choose 5s to 60m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use xtask::records::{Answered, Call};

    use super::*;

    #[test]
    fn windows_are_read() {
        assert_eq!(parse_window("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_window("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "20",
            "s",
            "1h",
            "-1s",
            "4s",
            "61m",
            "99999999999999999999m",
        ] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_parts_of_the_lag_add_up() {
        let at = |millis: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap();
        let call = |made_at, outcome: &str| Call {
            state: "Disable Login".to_owned(),
            entered_at: at(made_at - 5),
            made_at: at(made_at),
            result: Some(Answered {
                at: at(made_at + 3_000),
                answer: Ok(json!({ "outcome": outcome })),
            }),
        };
        let history = History {
            input: Value::Null,
            states: Vec::new(),
            calls: vec![call(-900, "not_yet"), call(15, "closed")],
        };
        let moment = |millis| at(millis).to_rfc3339();
        let row = RequestRow {
            status: "closed".to_owned(),
            closing: json!({
                "invoked_at": moment(40), "connected_at": moment(140), "login_refused_at": moment(160),
                "sessions_gone_at": moment(280), "at": moment(1_800),
            }),
        };

        let lag = Lag::read(at(0), &history, Some(&row));

        assert_eq!(
            lag.as_json(),
            json!({
                "login_refused": 160, "sessions_gone": 280, "proved_closed": 1_800,
                "parts": {
                    "wait": 10, "invoke": 30, "connect": 100, "disable": 20, "sweep": 120, "verify": 1_520,
                },
            })
        );
        let unknown = Lag::read(at(0), &history, None);
        assert_eq!(unknown.as_json()["parts"]["invoke"], Value::Null);
    }
}
