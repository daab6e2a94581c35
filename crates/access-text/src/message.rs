//! The messages: plain text for e-mail, one per event and person.

use access_core::grant::{Membership, assume_role};
use access_core::{AssumeRole, Fault, Finding, Grant};
use chrono::{DateTime, Utc};

use crate::moment::Moment;
use crate::refusal;
use crate::request_text;
use crate::request_text::{DecisionText, RequestText, When, line, lines};
use crate::texts::Texts;
use crate::view::{PersonView, RequestView};

/// SNS refuses a subject of 100 characters or more, one that is not ASCII, and one with control characters
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).
const MAX_SUBJECT_CHARS: usize = 99;

/// Quoted text is broken here, so that every line of it that a mail program shows begins with the quotation mark.
const QUOTE_COLUMNS: usize = 68;

/// A finished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// ASCII, begins with a letter, fewer than 100 characters, the same for the same request and event.
    pub subject: String,
    /// Plain text with `\n` line ends.
    pub body: String,
}

/// What a chat channel is told. Everybody in it reads it, so it holds no link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatNote {
    /// One line of ASCII.
    pub title: String,
    /// Plain text with `\n` line ends.
    pub description: String,
    /// What can be done, a sentence each.
    pub next_steps: Vec<String>,
}

/// What has happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// It waits for those who decide, who have been asked. To the requester.
    Accepted,
    /// Enough people approved, and the login opens later. The view's window is what was settled.
    Approved,
    /// The login is open, and its window ends soon.
    EndsSoon,
    /// The login was opened. The view's window is what was settled.
    Opened,
    /// The same, to the requester, whose password is in a secret.
    OpenedWithPassword {
        /// The command that reads it, for a shell.
        read_it: String,
    },
    /// The same of a role of AWS, to the requester.
    OpenedToAssume {
        /// The command that assumes it, for a shell.
        assume_it: String,
    },
    /// The login was closed, and proved closed at this moment.
    Closed {
        /// When it was observed.
        at: DateTime<Utc>,
        /// What the window left behind, a line each, grave ones first; empty if nothing was found.
        left_behind: Vec<String>,
    },
    /// The window is over, but another one keeps the role open.
    EndedRoleStillOpen {
        /// When the last window that is known ends.
        open_until: DateTime<Utc>,
        /// What this window left behind, as for [`Announcement::Closed`].
        left_behind: Vec<String>,
    },
    /// Somebody rejected; the view's decisions say who.
    Rejected,
    /// Too few people approved in time.
    Expired,
    /// The request could not be granted: a rule or the database said no. Nothing is open because of it.
    Refused {
        /// Why.
        faults: Vec<Fault>,
    },
    /// Somebody took the request back before it was opened; the view's ending says who.
    Cancelled,
    /// Somebody reviewed what was opened without approval.
    Reviewed {
        /// Who.
        by: PersonView,
        /// What they found, as they wrote it.
        comment: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Something of ours broke. Only when the login was never opened, or was proved closed.
    Failed,
    /// The window is over and the login could not be proved closed.
    CloseFailing,
}

/// Asks one approver to decide. `link` is theirs alone.
#[must_use]
pub fn ask(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    link: &str,
    now: DateTime<Utc>,
) -> Message {
    let text = RequestText::new(texts, request, now);
    let about = (texts.message.ask_subject)(&text.target);
    let opening = (texts.of_grant(&request.grant).ask)(&line(&approver.name), &text.requester_name);
    question(texts, &text, &about, opening, link)
}

/// Asks once more, with the votes that came meanwhile. `link` is theirs alone.
#[must_use]
pub fn remind(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    link: &str,
    now: DateTime<Utc>,
) -> Message {
    let text = RequestText::new(texts, request, now);
    let about = (texts.message.remind_subject)(&text.target);
    let opening = (texts.of_grant(&request.grant).remind)(
        &line(&approver.name),
        &text.requester_name,
        &text.decide_note,
    );
    question(texts, &text, &about, opening, link)
}

fn question(
    texts: &Texts,
    text: &RequestText,
    about: &str,
    opening: String,
    link: &str,
) -> Message {
    let says = &texts.message;
    let body = [
        opening,
        facts(texts, text, Facts::ToDecide),
        reason(texts, text),
        decisions(texts, &text.decisions),
        next(texts, &text.next_steps()),
        format!("{}\n{link}", says.decide_here),
        says.link_is_personal.to_owned(),
        footer(texts, text),
    ];
    Message {
        subject: subject(about, text),
        body: paragraphs(&body),
    }
}

/// Tells a chat channel that a request waits. `command` decides, for whoever can sign it as an approver.
#[must_use]
pub fn chat_about_request(
    texts: &Texts,
    request: &RequestView,
    command: &str,
    now: DateTime<Utc>,
) -> ChatNote {
    let text = RequestText::new(texts, request, now);
    let description = [
        (texts.of_grant(&request.grant).lead)(&text.requester_name, &text.how_long),
        facts(texts, &text, Facts::ToDecide),
        reason(texts, &text),
        next(texts, &text.next_steps()),
        footer(texts, &text),
    ];
    ChatNote {
        title: subject(&(texts.message.ask_subject)(&text.target), &text),
        description: paragraphs(&description),
        next_steps: vec![(texts.message.decide_by_call)(command)],
    }
}

/// Tells a chat channel what has happened to a request, as a message to people does, without what is for one person.
#[must_use]
pub fn chat_about_event(
    texts: &Texts,
    request: &RequestView,
    event: &Announcement,
    now: DateTime<Utc>,
) -> ChatNote {
    let Message { subject, body } = announce(texts, request, event, now);
    ChatNote {
        title: subject,
        description: body,
        next_steps: Vec::new(),
    }
}

/// Says what has happened to a request. It holds no link.
#[must_use]
pub fn announce(
    texts: &Texts,
    request: &RequestView,
    event: &Announcement,
    now: DateTime<Utc>,
) -> Message {
    announcement(texts, request, event, "", now)
}

/// The same with a link to end it, which is its reader's alone.
#[must_use]
pub fn announce_with_link(
    texts: &Texts,
    request: &RequestView,
    event: &Announcement,
    link: &str,
    now: DateTime<Utc>,
) -> Message {
    let says = &texts.message;
    let to_the_reader = format!("{}\n{link}\n\n{}", says.end_here, says.end_link_is_personal);
    announcement(texts, request, event, &to_the_reader, now)
}

/// The same for an approver who was asked and has not decided: there is nothing left for them to do.
#[must_use]
pub fn announce_already_handled(
    texts: &Texts,
    request: &RequestView,
    event: &Announcement,
    now: DateTime<Utc>,
) -> Message {
    let says = &texts.message;
    let to_the_reader = match event {
        Announcement::Rejected => says.already_rejected,
        _ => says.already_handled,
    };
    announcement(texts, request, event, to_the_reader, now)
}

fn announcement(
    texts: &Texts,
    request: &RequestView,
    event: &Announcement,
    to_the_reader: &str,
    now: DateTime<Utc>,
) -> Message {
    let mut text = RequestText::new(texts, request, now);
    let will_be_open = matches!(
        event,
        Announcement::Accepted
            | Announcement::Approved
            | Announcement::Opened
            | Announcement::OpenedWithPassword { .. }
            | Announcement::OpenedToAssume { .. }
    );
    if !will_be_open {
        text.extension = None;
    }
    let says = &texts.message;
    let of_grant = texts.of_grant(&request.grant);
    let role = text.role_spelt_out(texts);
    let target = text.target.as_str();
    let moment = |at: DateTime<Utc>| Moment::new(texts, at, request.zone);
    let (how_by_hand, by_hand) = match &request.grant {
        Grant::Login | Grant::Membership(_) => (
            says.close_by_hand,
            close_by_hand(&text.role, request.grant.membership()),
        ),
        Grant::AssumeRole(grant) => (
            says.close_policies_by_hand,
            close_policies_by_hand(grant, request, now),
        ),
    };
    let (about, headline, next_steps) = match event {
        Announcement::Accepted => (
            (says.accepted_subject)(target),
            (says.accepted)(&role, target),
            next(texts, &text.next_steps()),
        ),
        Announcement::Approved => (
            (says.approved_subject)(target),
            (says.approved)(&role, target),
            next(texts, &text.next_steps()),
        ),
        Announcement::EndsSoon => (
            (of_grant.ends_soon_subject)(target),
            (of_grant.ends_soon)(&role, target, &when(texts, &text.closes)),
            of_grant.ends_soon_next.to_owned(),
        ),
        Announcement::Opened => (
            (of_grant.opened_subject)(target),
            (of_grant.opened)(&role, target),
            next(texts, &[text.risk.clone(), text.closing.clone()]),
        ),
        Announcement::OpenedWithPassword { read_it } => (
            (of_grant.opened_subject)(target),
            (of_grant.opened)(&role, target),
            paragraphs(&[
                format!("{}\n    {read_it}", says.read_password),
                match text.extension {
                    Some(_) => says.same_password.to_owned(),
                    None => String::new(),
                },
                next(texts, std::slice::from_ref(&text.closing)),
            ]),
        ),
        Announcement::OpenedToAssume { assume_it } => (
            (of_grant.opened_subject)(target),
            (of_grant.opened)(&role, target),
            paragraphs(&[
                format!("{}\n    {assume_it}", says.assume_it),
                next(texts, std::slice::from_ref(&text.closing)),
            ]),
        ),
        Announcement::Closed { at, left_behind } => (
            (of_grant.closed_subject)(target),
            (of_grant.closed)(&role, target, &moment(*at).line()),
            paragraphs(&[
                of_grant.closed_next.to_owned(),
                match request.grant {
                    Grant::Login | Grant::Membership(_) => what_was_left(texts, left_behind),
                    // Accounts are not compared.
                    Grant::AssumeRole(_) => String::new(),
                },
            ]),
        ),
        Announcement::EndedRoleStillOpen {
            open_until,
            left_behind,
        } => (
            (says.still_open_subject)(target),
            (says.still_open)(&role, target, &moment(*open_until).line()),
            paragraphs(&[
                (says.still_open_next)(&moment(*open_until).utc),
                what_was_left(texts, left_behind),
            ]),
        ),
        Announcement::Rejected => (
            (says.rejected_subject)(target),
            (says.rejected)(&role, target),
            says.ask_again.to_owned(),
        ),
        Announcement::Expired => (
            (says.expired_subject)(target),
            (says.expired)(&role, target),
            says.ask_again.to_owned(),
        ),
        Announcement::Refused { faults } => (
            (says.refused_subject)(target),
            (says.refused)(&role, target),
            paragraphs(&[
                bullets(
                    texts,
                    says.refused_because,
                    faults
                        .iter()
                        .map(|it| refusal::said(texts, it, request.zone)),
                ),
                says.ask_again.to_owned(),
            ]),
        ),
        Announcement::Cancelled => (
            (says.cancelled_subject)(target),
            (says.cancelled)(&role, target),
            says.ask_again.to_owned(),
        ),
        Announcement::Reviewed { by, comment, at } => (
            (says.reviewed_subject)(target),
            format!(
                "{}\n{}",
                (says.reviewed)(&line(&by.name), &role, target, &moment(*at).line()),
                quote(&lines(comment))
            ),
            (says.reviewed_next)(&text.requester_name),
        ),
        Announcement::Failed => (
            (says.failed_subject)(target),
            (says.failed)(&role, target),
            says.failed_next.to_owned(),
        ),
        Announcement::CloseFailing => (
            (of_grant.close_failing_subject)(target),
            (of_grant.close_failing)(&role, target),
            format!(
                "{}\n\n{}\n{}",
                says.close_failing_goes_on, how_by_hand, by_hand
            ),
        ),
    };
    let is_open = matches!(
        event,
        Announcement::Opened | Announcement::OpenedWithPassword { .. }
    );
    let reviewers = request_text::reviewers(request);
    let (about, headline) = match reviewers {
        Some(_) if is_open => (
            (says.glass_broken_subject)(target),
            paragraphs(&[
                (says.glass_broken)(&text.requester_name, &role, target),
                (says.end_it)(&text.request_id),
                headline,
            ]),
        ),
        _ => (about, headline),
    };
    let is_over = matches!(
        event,
        Announcement::Closed { .. } | Announcement::EndedRoleStillOpen { .. }
    );
    let review = reviewers
        .filter(|_| is_open || is_over)
        .map(|reviewers| (says.review_it)(&text.requester_name, &reviewers, &text.request_id))
        .unwrap_or_default();
    let body = [
        headline,
        ending(texts, request),
        to_the_reader.to_owned(),
        next_steps,
        review,
        facts(texts, &text, Facts::ToRemember),
        reason(texts, &text),
        decisions(texts, &text.decisions),
        footer(texts, &text),
    ];
    Message {
        subject: subject(&about, &text),
        body: paragraphs(&body),
    }
}

/// Who ended it before its time, and why; empty if nobody did.
fn ending(texts: &Texts, request: &RequestView) -> String {
    let Some(ending) = &request.ending else {
        return String::new();
    };
    let at = Moment::new(texts, ending.at, request.zone).line();
    let said = (texts.message.ended_by)(&line(&ending.by.name), &at);
    format!("{said}\n{}", quote(&lines(&ending.why)))
}

/// Whether the deadline and the rule still matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    ToDecide,
    ToRemember,
}

fn facts(texts: &Texts, text: &RequestText, which: Facts) -> String {
    let says = &texts.request;
    let labelled = texts.words.labelled;
    let opens = match which {
        Facts::ToDecide => when(texts, &text.opens),
        Facts::ToRemember => text
            .opens
            .moment
            .as_ref()
            .map_or_else(|| text.opens.said.clone(), Moment::line),
    };
    let mut facts = vec![
        (texts.words.heading)(says.asked),
        labelled(
            says.who,
            &format!("{}{}{}", text.requester, texts.words.comma, text.proof),
        ),
        labelled(
            says.what,
            &(says.role_on_target)(&text.role_spelt_out(texts), &text.target),
        ),
        labelled(says.opens, &opens),
        labelled(says.closes, &when(texts, &text.closes)),
        labelled(says.how_long, &text.how_long),
    ];
    if let Some(asked) = &text.asked {
        facts.push(labelled(
            says.asked_for,
            &(texts.words.noted)(asked, says.narrowed),
        ));
    }
    if let Some(extension) = &text.extension {
        facts.push(labelled(says.extension, extension));
    }
    if which == Facts::ToDecide {
        if !text.findings.is_empty() {
            let findings: Vec<&str> = text.findings.iter().map(|it| it.said.as_str()).collect();
            facts.push(labelled(says.rights, &findings.join(" ")));
        }
        if !text.other_windows.is_empty() {
            let others = text.other_windows.join(texts.words.comma);
            facts.push(labelled(says.other_windows, &others));
        }
        facts.push(labelled(says.rule, &text.rule));
        facts.push(labelled(
            says.decide_by,
            &(texts.words.noted)(&text.decide_by.line(), &text.decide_note),
        ));
    }
    facts.join("\n")
}

/// `as soon as it is approved (planned start … has passed)`, or a moment.
fn when(texts: &Texts, when: &When) -> String {
    let moment = when.moment.as_ref().map(Moment::line);
    let said = match &moment {
        Some(moment) => moment,
        None => &when.said,
    };
    if when.note.is_empty() {
        said.clone()
    } else {
        (texts.words.noted)(said, &when.note)
    }
}

fn reason(texts: &Texts, text: &RequestText) -> String {
    format!("{}\n{}", texts.request.requester_says, quote(&text.reason))
}

fn decisions(texts: &Texts, decisions: &[DecisionText]) -> String {
    if decisions.is_empty() {
        return String::new();
    }
    let mut said = (texts.words.heading)(texts.request.decisions);
    for decision in decisions {
        said.push_str(&format!(
            "\n- {}{}{}",
            decision.said,
            texts.words.comma,
            decision.at.line()
        ));
        if !decision.narrowing.is_empty() {
            said.push_str(&format!("\n  {}", decision.narrowing));
        }
        if !decision.comment.is_empty() {
            said.push('\n');
            said.push_str(&quote(&decision.comment));
        }
    }
    said
}

/// The lines hold names that the role itself may have chosen.
fn what_was_left(texts: &Texts, left_behind: &[String]) -> String {
    let says = &texts.message;
    if left_behind.is_empty() {
        return says.nothing_left.to_owned();
    }
    let lines: Vec<String> = left_behind.iter().map(|it| line(it)).collect();
    format!(
        "{}\n{}\n{}",
        (texts.words.heading)(says.left_behind),
        lines.join("\n"),
        says.left_behind_next
    )
}

fn next(texts: &Texts, steps: &[String]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    bullets(texts, texts.request.next, steps.iter().cloned())
}

fn bullets(texts: &Texts, heading: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| format!("- {item}")).collect();
    format!("{}\n{}", (texts.words.heading)(heading), items.join("\n"))
}

fn footer(texts: &Texts, text: &RequestText) -> String {
    let request_id = (texts.words.labelled)(texts.request.request_id, &text.request_id);
    format!("{request_id}\n{}", texts.form.never_asks)
}

fn paragraphs(paragraphs: &[String]) -> String {
    let said: Vec<&str> = paragraphs
        .iter()
        .map(String::as_str)
        .filter(|it| !it.is_empty())
        .collect();
    said.join("\n\n")
}

/// Marks every line as somebody else's words, and breaks long ones.
fn quote(text: &str) -> String {
    let mut quoted: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut row = String::new();
        let mut columns = 0;
        for word in line.split(' ') {
            let word_columns: usize = word.chars().map(columns_of).sum();
            if columns > 0 && columns + 1 + word_columns > QUOTE_COLUMNS {
                quoted.push(std::mem::take(&mut row));
                columns = 0;
            }
            if columns > 0 {
                row.push(' ');
                columns += 1;
            }
            for character in word.chars() {
                if columns + columns_of(character) > QUOTE_COLUMNS {
                    quoted.push(std::mem::take(&mut row));
                    columns = 0;
                }
                row.push(character);
                columns += columns_of(character);
            }
        }
        quoted.push(row);
    }
    let quoted: Vec<String> = quoted
        .iter()
        .map(|row| format!("> {row}").trim_end().to_owned())
        .collect();
    quoted.join("\n")
}

/// Characters from Hangul Jamo on are mostly two columns wide; a guess is enough to break lines.
fn columns_of(character: char) -> usize {
    if character < '\u{1100}' { 1 } else { 2 }
}

/// What an administrator can paste into psql. Identifiers and literals are quoted as
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html> says.
fn close_by_hand(role: &str, membership: Option<&Membership>) -> String {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (mut statements, user) = match membership {
        None => {
            let identifier = role.replace('"', "\"\"");
            (vec![format!("ALTER ROLE \"{identifier}\" NOLOGIN;")], role)
        }
        Some(membership) => (
            vec![
                "\\c latchkey".to_owned(),
                format!("SELECT latchkey.close({});", literal(role)),
                format!(
                    "SELECT held_by FROM latchkey.membership({});",
                    literal(role)
                ),
            ],
            membership.user.as_str(),
        ),
    };
    statements.push(format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {};",
        literal(user)
    ));
    format!("    {}", statements.join("\n    "))
}

/// The same for the policies of a window.
fn close_policies_by_hand(grant: &AssumeRole, request: &RequestView, now: DateTime<Utc>) -> String {
    let found = request.findings.iter().find_map(|finding| match finding {
        Finding::MayAssume {
            grantee,
            policy_name,
            ..
        } => Some((grantee, assume_role::request_of(policy_name)?)),
        _ => None,
    });
    let Some((grantee, id)) = found else {
        return String::new();
    };
    let commands = assume_role::commands_to_end(grant, grantee, &id, now);
    let lines: Vec<String> = commands.iter().map(|it| format!("    {it}")).collect();
    lines.join("\n")
}

/// What it is about and which request, within the rules of SNS.
fn subject(about: &str, text: &RequestText) -> String {
    let ascii = |part: &str| -> String {
        part.chars()
            .map(|character| {
                if matches!(character, ' '..='~') {
                    character
                } else {
                    '?'
                }
            })
            .collect()
    };
    let id = ascii(&text.request_id);
    let n_left = MAX_SUBJECT_CHARS.saturating_sub(id.len() + " ()".len());
    let about: String = ascii(about).chars().take(n_left).collect();
    format!("{about} ({id})")
        .chars()
        .take(MAX_SUBJECT_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quoted_line_is_marked_and_short() {
        let long = format!("one two\n\n{} {}", "x".repeat(200), "本番".repeat(60));
        for row in quote(&long).lines() {
            assert!(row.starts_with('>'), "{row}");
            assert!(
                row.chars().map(columns_of).sum::<usize>() <= QUOTE_COLUMNS + 2,
                "{row}"
            );
        }
        assert_eq!(quote("a b"), "> a b");
    }

    #[test]
    fn the_role_is_quoted_in_the_commands() {
        let commands = close_by_hand("o'dd \"role\"", None);
        assert!(
            commands.contains(r#"ALTER ROLE "o'dd ""role""" NOLOGIN;"#),
            "{commands}"
        );
        assert!(
            commands.contains(r#"usename = 'o''dd "role"'"#),
            "{commands}"
        );
    }
}
