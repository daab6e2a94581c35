//! The demo of a role of an AWS account: a person who cannot assume it, can, and cannot any more.

use std::time::Instant;

use access_core::grant::assume_role;
use chrono::{DateTime, Utc};
use serde_json::json;
use xtask::assuming::{Person, Privileged, as_root, assume, can_act};
use xtask::console::{self, bold, dim, green, red};
use xtask::error::{Error, Result};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Ended, Execution, Stack};

use super::{Options, STEP_WITHIN, Seen, Told, clock, count_down, decide, lag, or_what_went_wrong};

const PERSON: &str = "dana";
const ROLE: &str = "orders-admin";
/// Another account than the one that Latchkey is deployed in.
const OTHER_ACCOUNT: &str = "210987654321";
/// A source identity that no request has.
const NO_REQUEST: &str = "latchkey-r-0000000000000000";

struct Observed {
    before: Seen,
    during: Seen,
    /// A new session, and the one that lived at the end.
    after: [Seen; 2],
    opened_at: DateTime<Utc>,
    end: DateTime<Utc>,
    session_denied_at: DateTime<Utc>,
    refused_at: DateTime<Utc>,
    /// Those of the person's IAM user, by name.
    policies_after: Vec<String>,
    messages: Vec<String>,
    ended: Ended,
}

/// Shows one window from the request to its end.
pub(super) async fn show(stack: &Stack, options: &Options) -> Result<Told> {
    let role = Privileged::make(stack, OTHER_ACCOUNT, ROLE, &Privileged::trust()).await?;
    role.put(stack, &role.document()).await?;
    let person = Person::make(stack, PERSON).await?;
    let inbox = stack.subscribe(PERSON).await?;

    console::heading("Before");
    let before = try_to_assume(stack, &person, &role, NO_REQUEST).await?;
    let before = say_seen("assumes the role", before.is_some());

    console::heading("The request");
    let execution = ask(stack, &person, &role, options).await?;
    let asks = |message: &xtask::inbox::Message| message.decision_link().is_some();
    let asked = stack.inbox(APPROVERS[0])?.next(STEP_WITHIN, asks);
    let message = or_what_went_wrong(stack, &execution, asked).await?;
    let link = message.decision_link().unwrap_or_default();
    let subject = dim(&message.subject);
    console::say(&format!("  {} gets a message: {subject}", APPROVERS[0]));

    console::heading("The decision");
    console::say(&format!("  {link}"));
    decide(stack, &execution, link, ROLE, options).await?;

    console::heading("During");
    let is_open = |message: &xtask::inbox::Message| message.subject.contains("access open");
    let told = inbox.next(STEP_WITHIN, is_open);
    let opened = or_what_went_wrong(stack, &execution, told).await?;
    console::say(&format!(
        "  {PERSON} gets a message: {}",
        dim(&opened.subject)
    ));
    let name = source_identity(&opened.text)?;
    let session = or_what_went_wrong(
        stack,
        &execution,
        until_assumed(stack, &person, &role, &name),
    )
    .await?;
    let opened_at = Utc::now();
    say_seen("assumes the role", true);
    let during = say_seen(
        "calls AWS with that session",
        can_act(stack, &session).await?,
    );
    let end = allowed_until(stack, &name).await?;
    console::say(&format!("  the window ends at {}", clock(end)));

    count_down(end).await;
    let (session_denied_at, refused_at) = tokio::try_join!(
        until_denied(stack, &session),
        until_refused(stack, &person, &role, &name)
    )?;

    console::heading("After");
    console::say(&format!(
        "  the live session was denied {} after the end",
        lag(end, session_denied_at)
    ));
    console::say(&format!(
        "  a new session was refused {} after the end",
        lag(end, refused_at)
    ));
    let ended = stack.wait_for_end(&execution, STEP_WITHIN).await?;
    let again = try_to_assume(stack, &person, &role, &name).await?;
    let after = [
        say_seen("assumes the role", again.is_some()),
        say_seen(
            "calls AWS with the live session",
            can_act(stack, &session).await?,
        ),
    ];
    let policies_after = policies_of_person(stack).await?;
    let mut messages = vec![opened.subject];
    for message in inbox.take_all(|_| true).await? {
        console::say(&format!(
            "  {PERSON} gets a message: {}",
            dim(&message.subject)
        ));
        messages.push(message.subject);
    }
    let observed = Observed {
        before,
        during,
        after,
        opened_at,
        end,
        session_denied_at,
        refused_at,
        policies_after,
        messages,
        ended,
    };
    Ok(observed.told())
}

impl Observed {
    fn problems(&self) -> Vec<String> {
        let expected = [
            (
                self.before == Seen::Refused,
                "the role could be assumed before the window",
            ),
            (
                self.during == Seen::Accepted,
                "its session could do nothing during the window",
            ),
            (
                self.after[0] == Seen::Refused,
                "the role could be assumed after the window",
            ),
            (
                self.after[1] == Seen::Refused,
                "a live session could act after the window",
            ),
            (
                self.opened_at < self.end,
                "the role could not be assumed before the end",
            ),
            (
                self.policies_after.is_empty(),
                "a policy was left after the window",
            ),
            (
                self.ended.status == "SUCCEEDED" && self.ended.outcome() == "closed",
                "the execution did not end closed",
            ),
        ];
        let broken = expected.into_iter().filter(|(holds, _)| !holds);
        broken.map(|(_, problem)| problem.to_owned()).collect()
    }

    fn told(self) -> Told {
        let problems = self.problems();
        let lag_ms = |at: DateTime<Utc>| (at - self.end).num_milliseconds();
        let last = self.session_denied_at.max(self.refused_at);
        let json = json!({
            "holds": problems.is_empty(),
            "problems": problems,
            "request_id": self.ended.output["request_id"],
            "outcome": self.ended.outcome(),
            "kind": "assume-role",
            "assume_role_before": self.before.as_str(),
            "assume_role_during": self.during.as_str(),
            "assume_role_after": self.after[0].as_str(),
            "live_session_after": self.after[1].as_str(),
            "policies_after": self.policies_after,
            "opened_at": self.opened_at,
            "end": self.end,
            "session_denied_lag_ms": lag_ms(self.session_denied_at),
            "assume_role_refused_lag_ms": lag_ms(self.refused_at),
            "execution_ended_lag_ms": lag_ms(self.ended.at),
            "messages_to_requester": self.messages,
        });
        Told {
            problems,
            held: format!(
                "Everything held: refused, accepted, refused; a live session too, {} ms after the end.",
                lag_ms(last)
            ),
            json,
        }
    }
}

async fn ask(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    options: &Options,
) -> Result<Execution> {
    let duration = format!("PT{}S", options.window.as_secs());
    let mut document = Stack::request_document(ROLE, &duration);
    document["target"] = json!(role.target);
    let execution = stack.ask_as(&person.keys, &document).await?;
    console::say(&format!(
        "  {PERSON} asks to assume {} in account {OTHER_ACCOUNT} for {}",
        bold(ROLE),
        console::seconds(options.window)
    ));
    Ok(execution)
}

/// The source identity in the command of the message.
fn source_identity(message: &str) -> Result<String> {
    let found = message.split_once("--source-identity ");
    let found = found.and_then(|(_, rest)| rest.split_whitespace().next());
    found.map(str::to_owned).ok_or_else(|| {
        Error::NotAsPromised("the message does not say how to assume the role".to_owned())
    })
}

/// Until when the person's policy lets them in, as AWS has it.
async fn allowed_until(stack: &Stack, name: &str) -> Result<DateTime<Utc>> {
    let get = ["iam", "get-user-policy", "--user-name", PERSON];
    let named = ["--policy-name", name];
    let found = as_root(stack, ACCOUNT, &[&get[..], &named].concat()).await?;
    assume_role::allowed_until(&found["PolicyDocument"]).ok_or_else(|| {
        Error::NotAsPromised("the policy that lets the person in has no end".to_owned())
    })
}

async fn policies_of_person(stack: &Stack) -> Result<Vec<String>> {
    let list = ["iam", "list-user-policies", "--user-name", PERSON];
    let listed = as_root(stack, ACCOUNT, &list).await?;
    let names = listed["PolicyNames"].as_array().cloned();
    let names = names.unwrap_or_default().into_iter();
    Ok(names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect())
}

async fn try_to_assume(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    name: &str,
) -> Result<Option<Keys>> {
    assume(stack, &person.keys, role, Some(name)).await
}

/// AWS may need a while until it knows a policy.
async fn until_assumed(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    name: &str,
) -> Result<Keys> {
    let started = Instant::now();
    while started.elapsed() < STEP_WITHIN {
        if let Some(session) = try_to_assume(stack, person, role, name).await? {
            return Ok(session);
        }
    }
    Err(waited("the opening"))
}

async fn until_denied(stack: &Stack, session: &Keys) -> Result<DateTime<Utc>> {
    let started = Instant::now();
    while started.elapsed() < STEP_WITHIN {
        if !can_act(stack, session).await? {
            return Ok(Utc::now());
        }
    }
    Err(waited("the denial of the live session"))
}

async fn until_refused(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    name: &str,
) -> Result<DateTime<Utc>> {
    let started = Instant::now();
    while started.elapsed() < STEP_WITHIN {
        if try_to_assume(stack, person, role, name).await?.is_none() {
            return Ok(Utc::now());
        }
    }
    Err(waited("the refusal"))
}

fn waited(what: &str) -> Error {
    Error::Waited {
        what: what.to_owned(),
        waited: STEP_WITHIN,
        last_seen: None,
    }
}

fn say_seen(what: &str, is_accepted: bool) -> Seen {
    let (seen, answer) = if is_accepted {
        (Seen::Accepted, green("accepted"))
    } else {
        (Seen::Refused, red("refused"))
    };
    console::say(&format!("  {PERSON} {what}: {answer}"));
    seen
}
