//! The English catalogue. Short words, whole sentences, and always what happens next.

mod refusals;

use access_core::Language;
use chrono::TimeDelta;

use crate::assume_role;
use crate::texts::{
    EndingTexts, FormTexts, GrantTexts, MessageTexts, OutcomeTexts, RequestTexts, Texts, Words,
};

pub use refusals::remedy;

/// English.
pub static ENGLISH: Texts = Texts {
    language: Language::English,
    words: Words {
        date: |date| date.format("%a %-d %b %Y").to_string(),
        date_and_clock: |date, clock| format!("{date}, {clock}"),
        duration: english_duration,
        in_zone: |time, zone, offset| format!("{time} in {zone} ({offset})"),
        person: |name, id| {
            if name == id {
                id.to_owned()
            } else {
                format!("{name} ({id})")
            }
        },
        labelled: |label, value| format!("{label}: {value}"),
        heading: |heading| format!("{heading}:"),
        noted: |said, note| format!("{said} ({note})"),
        comma: ", ",
        sentence: |said| format!("{said}."),
    },
    request: RequestTexts {
        asked: "The request",
        who: "Who",
        claimed: "claimed, not verified",
        claimed_hint: "Whoever files a request can write any name here. If in doubt, ask the person directly.",
        verified: "verified by AWS",
        verified_hint: "They signed this request with their own AWS credentials.",
        what: "What",
        role_on_target: |role, target| format!("role {role} on {target}"),
        role: "Role",
        member_of: |roles| format!("Has the rights of {}.", english_list(roles)),
        acted_as_by: |roles| {
            format!(
                "{} can act as it at any time, also while it is closed.",
                english_list(roles)
            )
        },
        creates_roles: "May create and change other roles.",
        creates_databases: "May create databases.",
        replicates: "May copy the whole cluster (REPLICATION).",
        bypasses_row_security: "Sees and changes every row, whatever row-level security says.",
        may_assume: |grantee, role_arn, name| {
            format!("{grantee} may assume {role_arn}, with the source identity {name} only.")
        },
        sessions_run_out: |duration| {
            format!(
                "Latchkey may not change this role: sessions that live at the end go on for up to {duration}."
            )
        },
        opened_outside_windows: "Can log in already, outside of every window, and stays so.",
        reaches_latchkey: "May connect to Latchkey's own database, and use up its connections.",
        ends_sessions: "May end other people's sessions, Latchkey's too, and so hold up its own closing.",
        rights: "Rights",
        and_more: |n_more| format!("{n_more} more"),
        extension: "Extension",
        extends: |open_until, until| {
            format!(
                "the requester has this role open until {open_until}; approved before then, it stays open without a break until {until}"
            )
        },
        extended: |open_until, until| {
            format!(
                "the requester has this role open until {open_until}; with this request it stays open without a break until {until}"
            )
        },
        extends_nothing: |open_until| {
            format!(
                "the requester has this role open until {open_until}; this request does not make that longer"
            )
        },
        other_windows: "Other windows of this role",
        other_window: |start, end, request_id| format!("{start} to {end}, request {request_id}"),
        other_window_is_open: |end, request_id| {
            format!("open now, until {end}, request {request_id}")
        },
        foreign_characters: |code_points| format!("contains {code_points}"),
        why: "Why",
        requester_says: "The requester says:",
        made_harmless: "Links, mentions and hidden characters in this text were made harmless.",
        when: "When",
        opens: "Opens",
        closes: "Closes",
        how_long: "How long",
        as_soon_as_approved: "as soon as it is approved",
        not_before: |start| format!("not before {start}"),
        asked_for: "Asked for",
        narrowed: "narrowed by approvers",
        from_to: |start, end| format!("from {start} to {end}"),
        from_approval_until: |end| format!("as soon as it is approved, until {end}"),
        from_approval_for: |duration| format!("as soon as it is approved, for {duration}"),
        only_from: |start| format!("only from {start} on"),
        only_until: |end| format!("only until {end}"),
        only_from_to: |start, end| format!("only from {start} to {end}"),
        planned_start_passed: |start| format!("planned start {start} has passed"),
        after_approval: |duration| format!("{duration} after the approval"),
        latest_end: |end| format!("at the latest {end}"),
        starts_in: |time_left| format!("in {time_left}"),
        would_remain: |left, asked| format!("{left} would remain of the {asked} asked for"),
        if_approved_now: |duration| format!("{duration} if it is approved now"),
        who_decides: "Who decides",
        rule: "Rule",
        approvals_needed: |n_required, approvers| {
            let people = match approvers.len() {
                1 => "1 person".to_owned(),
                n_people => format!("{n_people} people"),
            };
            format!(
                "{n_required} of {people} must approve ({}); one rejection ends it",
                english_list(approvers)
            )
        },
        decide_by: "Decide by",
        time_left: |time_left| format!("{time_left} left"),
        deadline_passed: "has passed",
        decisions: "Decisions so far",
        progress: |n_approved, n_required| format!("{n_approved} of {n_required} approvals given"),
        approved_by: |name| format!("{name} approved"),
        rejected_by: |name| format!("{name} rejected"),
        opened_without_approval: |requester| format!("{requester} opened it without approval"),
        without_approval: |requester, reviewers| {
            format!(
                "Opened without approval, as the document of this role lets {requester} do in an emergency; {} must review it afterwards",
                english_choice(reviewers)
            )
        },
        request_id: "Request",
        next: "What happens next",
        next_is_open_for: |requester| {
            format!(
                "A password is made for this window. Only {requester} can read it, and it ends when the role is closed."
            )
        },
        next_expires: |decide_by| {
            format!(
                "Without enough approvals by {decide_by} the request expires and nothing opens."
            )
        },
    },
    login: GrantTexts {
        place: "Database",
        kind: |_| "a privileged PostgreSQL user, who will be able to log in".to_owned(),
        lead: |requester, how_long| {
            format!("{requester} asks for a privileged database login: {how_long}.")
        },
        next_opens_when_approved: |n_missing| {
            format!(
                "With {} the login opens at once.",
                more_approvals(n_missing)
            )
        },
        next_opens_at_when_approved: |n_missing, start| {
            format!(
                "With {} the login opens at {start}.",
                more_approvals(n_missing)
            )
        },
        next_opens_now: "The login opens now.",
        next_is_open_now: "The login is open now.",
        next_opens_at: |start| format!("The login opens at {start}."),
        next_is_open: |given| {
            format!(
                "While it is open, everyone who knows the password of {} can log in.",
                given.user
            )
        },
        next_closes_at: |end| {
            format!(
                "At {end} it is closed: nobody can log in any more, and sessions still open are ended."
            )
        },
        next_closes_after: |duration| {
            format!(
                "After {duration} it is closed: nobody can log in any more, and sessions still open are ended."
            )
        },
        next_closes_after_at_latest: |duration, end| {
            format!(
                "After {duration}, at {end} at the latest, it is closed: nobody can log in any more, and sessions still open are ended."
            )
        },
        end_window_means: "The login is closed at once and its sessions are ended, with what they have not committed. Everybody concerned is told who ended it and why.",
        already_open: "This request was approved, and the login is open now.",
        already_closed: "The window of this request is over, and the login is closed.",
        open: "The login is open",
        closing_now: "The window of this request is over, and the login is being closed now. A message says when that is proved.",
        ask: |approver, requester| {
            format!(
                "{approver}, please decide: {requester} asks to log in as a privileged PostgreSQL user."
            )
        },
        remind: |approver, requester, time_left| {
            format!(
                "{approver}, your decision is still missing ({time_left}): {requester} asks to log in as a privileged PostgreSQL user."
            )
        },
        ends_soon_subject: |target| format!("Latchkey: login closes soon on {target}"),
        ends_soon: |role, target, end| {
            format!("The login of role {role} on {target} closes at {end}.")
        },
        ends_soon_next: "Finish what you are doing: then nobody can log in any more, and sessions still open are ended, with what they have not committed. Only another approved window for this role would keep it open. If you need more time, file a new request now.",
        opened_subject: |target| format!("Latchkey: login open on {target}"),
        opened: |role, target| format!("The login of role {role} on {target} is open."),
        closed_subject: |target| format!("Latchkey: login closed on {target}"),
        closed: |role, target, at| {
            format!(
                "The login of role {role} on {target} is closed. Checked on the database at {at}."
            )
        },
        closed_next: "Nobody can log in with this role, and no session of it is left.",
        close_failing_subject: |target| format!("Latchkey ALARM: login NOT closed on {target}"),
        close_failing: |role, target| {
            format!(
                "ALARM: the window is over, but the login of role {role} on {target} could not be proved closed. Take it as still open."
            )
        },
    },
    membership: GrantTexts {
        place: "Database",
        kind: |given| {
            format!(
                "membership: the PostgreSQL user {} will be able to act as {} (SET ROLE)",
                given.user, given.role
            )
        },
        lead: |requester, how_long| {
            format!("{requester} asks for the rights of a privileged PostgreSQL role: {how_long}.")
        },
        next_opens_when_approved: |n_missing| {
            format!(
                "With {} the membership begins at once.",
                more_approvals(n_missing)
            )
        },
        next_opens_at_when_approved: |n_missing, start| {
            format!(
                "With {} the membership begins at {start}.",
                more_approvals(n_missing)
            )
        },
        next_opens_now: "The membership begins now.",
        next_is_open_now: "The membership is there now.",
        next_opens_at: |start| format!("The membership begins at {start}."),
        next_is_open: |given| {
            format!(
                "While it is there, everyone who can log in as {} can act as {}. PostgreSQL does not end it by itself: Latchkey does, and looks again every few minutes.",
                given.user, given.role
            )
        },
        next_closes_at: |end| {
            format!(
                "At {end} it ends: the user is no member any more, and all sessions of the user are ended, also those that did other work."
            )
        },
        next_closes_after: |duration| {
            format!(
                "After {duration} it ends: the user is no member any more, and all sessions of the user are ended, also those that did other work."
            )
        },
        next_closes_after_at_latest: |duration, end| {
            format!(
                "After {duration}, at {end} at the latest, it ends: the user is no member any more, and all sessions of the user are ended, also those that did other work."
            )
        },
        end_window_means: "The membership is revoked at once and all sessions of the user are ended, with what they have not committed. Everybody concerned is told who ended it and why.",
        already_open: "This request was approved, and the user is a member now.",
        already_closed: "The window of this request is over, and the user is no member any more.",
        open: "The membership is there",
        closing_now: "The window of this request is over, and the membership is being revoked now. A message says when that is proved.",
        ask: |approver, requester| {
            format!(
                "{approver}, please decide: {requester} asks for the rights of a privileged PostgreSQL role."
            )
        },
        remind: |approver, requester, time_left| {
            format!(
                "{approver}, your decision is still missing ({time_left}): {requester} asks for the rights of a privileged PostgreSQL role."
            )
        },
        ends_soon_subject: |target| format!("Latchkey: membership ends soon on {target}"),
        ends_soon: |role, target, end| format!("The membership {role} on {target} ends at {end}."),
        ends_soon_next: "Finish what you are doing: then all sessions of the user are ended, with what they have not committed. Only another approved window for this membership would keep it. If you need more time, file a new request now.",
        opened_subject: |target| format!("Latchkey: membership given on {target}"),
        opened: |role, target| {
            format!("The membership {role} on {target} is there: log in as ever, then SET ROLE.")
        },
        closed_subject: |target| format!("Latchkey: membership ended on {target}"),
        closed: |role, target, at| {
            format!("The membership {role} on {target} is over. Checked on the database at {at}.")
        },
        closed_next: "The user is no member of the role any more, by whoever's grant, and no session is left that could act as it.",
        close_failing_subject: |target| format!("Latchkey ALARM: membership NOT ended on {target}"),
        close_failing: |role, target| {
            format!(
                "ALARM: the window is over, but the membership {role} on {target} could not be proved to be over. Take the user as still a member."
            )
        },
    },
    assume_role: assume_role::ENGLISH,
    assume_role_run_out: assume_role::ENGLISH_RUN_OUT,
    form: FormTexts {
        heading: |role, target| format!("Open {role} on {target}?"),
        go_to_decision: "Go to your decision",
        your_decision: "Your decision",
        deciding_as: |name| {
            format!("You decide as {name}. This link is yours alone: do not pass it on.")
        },
        comment: "Comment",
        comment_hint: |max_chars| {
            format!("Needed to reject: the requester reads why. At most {max_chars} characters.")
        },
        narrow: "Approve less time (optional)",
        narrow_hint: |zone| {
            format!(
                "Start later, end earlier, or both; never outside what is asked for. Times are in {zone}. Leave a field empty to keep it as it is. Not needed to reject."
            )
        },
        start_later: "Start later, at",
        end_earlier: "End earlier, at",
        not_before_hint: |earliest| format!("Not before {earliest}."),
        not_after_hint: |latest| format!("Not after {latest}."),
        time_unreadable: "Give a date and a time, such as 2026-11-22T19:30, or leave the field empty.",
        time_twice: |zone| {
            format!(
                "This time happens twice in {zone}, because clocks go back. Choose a time before or after that hour."
            )
        },
        time_never: |zone| {
            format!(
                "This time never happens in {zone}, because clocks go forward. Choose a time before or after that hour."
            )
        },
        start_too_early: |earliest| {
            format!(
                "The window cannot start before {earliest}. Choose a later start, or leave it empty."
            )
        },
        end_too_late: |latest| {
            format!(
                "The window cannot end after {latest}. Choose an earlier end, or leave it empty."
            )
        },
        too_short: |left, least| {
            format!(
                "This would leave {left}; the shortest window of this role is {least}. Leave more time, or reject the request."
            )
        },
        too_short_together: |left, least| {
            format!(
                "Together with what others approved, this would leave {left}; the shortest window of this role is {least}. See the decisions so far and leave more time, or reject the request."
            )
        },
        role_in_use: |name, until| {
            format!(
                "{name} has this role until {until}, and people do not share it. Let the window start then, or approve later."
            )
        },
        role_in_use_by_hand: |until| {
            format!(
                "The database's owner has opened this role by hand until {until}, and people do not share it. Let the window start then, or approve later."
            )
        },
        role_in_use_by_somebody: |until| {
            format!(
                "Somebody else has this role until {until}, and people do not share it. Let the window start then, or approve later."
            )
        },
        type_role: "To approve, type the name of the role:",
        type_role_hint: "This tells a person from a mail scanner. Not needed to reject.",
        approve: "Approve",
        reject: "Reject",
        not_recorded: "Nothing is recorded yet",
        no_decision: "Press Approve or Reject.",
        role_does_not_match: |role| {
            format!("To approve, type the name of the role exactly: {role}")
        },
        comment_too_long: |max_chars, n_chars| {
            format!("Shorten the comment to {max_chars} characters; it has {n_chars}.")
        },
        comment_missing: "To reject, write in the comment why; the requester reads it.",
        as_of: |time| {
            format!(
                "Times left are as of {time}, when this page was made. Load it again to see the latest."
            )
        },
        never_asks: "Latchkey never asks for a password.",
    },
    ending: EndingTexts {
        cancel: "Take this request back",
        cancel_means: "Nothing opens, and everybody concerned is told who took it back and why.",
        cancel_now: "Take it back",
        end_window: "End this window now",
        end_window_now: "End it now",
        ending_as: |name| {
            format!("You do it as {name}. This link is yours alone: do not pass it on.")
        },
        reason: "Why",
        reason_hint: |max_chars| format!("The others read it. At most {max_chars} characters."),
        reason_missing: "Write why; the others read it.",
        reason_too_long: |max_chars, n_chars| {
            format!("Shorten the reason to {max_chars} characters; it has {n_chars}.")
        },
        type_role: "To end it, type the name of the role:",
        type_role_hint: "This tells a person from a mail scanner.",
        role_does_not_match: |role| format!("To end it, type the name of the role exactly: {role}"),
        not_pressed: |button| format!("Press “{button}”."),
    },
    outcome: OutcomeTexts {
        approved_waits: "Your approval is recorded",
        approved_waits_for: |n_missing| {
            format!(
                "It waits for {}. Until then nothing opens.",
                more_approvals(n_missing)
            )
        },
        approved: "Approved",
        approved_done: "Your approval is recorded, and it was the last one needed.",
        rejected: "Rejected",
        rejected_done: "Your rejection is recorded. The request is over, nothing opens, and the requester is told why.",
        already_decided: "Already decided",
        already_by_you: |at| {
            format!("You decided on this request at {at}. A decision cannot be changed here.")
        },
        already_by: |names, at| format!("Decided by {}, at {at}.", english_list(names)),
        already_approved: "This request is approved. There is nothing left to decide.",
        already_open_without_approval: "Nobody approved this: it was opened in an emergency, and must be reviewed when it is over.",
        already_ended: "The window of this request is over. Another approved window keeps the role open.",
        already_rejected: "This request was rejected and is over. Nothing opens.",
        already_refused: "This request was refused, because it could not be opened. Nothing was opened.",
        already_cancelled: "This request was taken back before it was opened. Nothing opens.",
        waits: "Waiting for approval",
        still_waits: "This request waits for decisions. Nothing is open because of it.",
        over: "The window is over",
        refused: "Refused",
        cancelled: "Taken back",
        expired: "Too late: this request has expired",
        expired_at: |decide_by| format!("It could be decided until {decide_by}."),
        window_passed: |end| format!("The time asked for ended at {end}."),
        nothing_opened: "Nothing was opened. If the access is still needed, the requester can file a new request.",
        cannot_decide: "You cannot decide on this request",
        you_are_the_requester: "You asked for it yourself, and nobody approves their own request. The other approvers have been asked.",
        not_an_approver: "You are not among the approvers of this role. The platform team keeps the list.",
        only_by_signed_call: "Links do not decide on this role. Decide from the command line, with a call signed by your own AWS credentials: POST /requests/REQUEST/decision at the address of this page. The README says how.",
        invalid_link: "This link is not valid",
        invalid_link_help: "Open it again from the message, whole and unchanged.",
        bad_form: "This could not be read",
        bad_form_help: "Nothing was recorded. Open the link from the message again and use the buttons on the page.",
        too_many: "Too many requests",
        too_many_help: "Wait a minute, then open the link from the message again.",
        temporary: "This did not work just now",
        temporary_help: "Open the link from the message again in a minute: the page shows whether a decision of yours is recorded.",
        reference: "If it goes on, give the platform team this number:",
        may_close: "You can close this page.",
    },
    message: MessageTexts {
        ask_subject: |target| format!("Latchkey: please decide on access to {target}"),
        remind_subject: |target| format!("Latchkey: reminder, please decide on access to {target}"),
        decide_here: "Look at it and decide here:",
        link_is_personal: "This link is yours alone. Whoever holds it can decide in your name, so do not forward this message. Opening the link decides nothing.",
        decide_by_call: |command| {
            format!(
                "Approvers decide by the link in their own mail, or by this call, signed with their AWS credentials: `{command}`"
            )
        },
        accepted_subject: |target| format!("Latchkey: request waits for approval for {target}"),
        accepted: |role, target| {
            format!(
                "The request for role {role} on {target} waits for approval; those who decide have been asked. If you have not made it, take it back and tell the platform team."
            )
        },
        end_here: "To end it before its time, say why here:",
        end_link_is_personal: "This link is yours alone. Whoever holds it can end this request and its window in your name, and nothing else. Opening the link ends nothing.",
        approved_subject: |target| format!("Latchkey: request approved for {target}"),
        approved: |role, target| format!("The request for role {role} on {target} was approved."),
        already_handled: "Already handled: the decisions below were enough. There is nothing left for you to do. Your link shows how it went, and ends it while there is something to end.",
        already_rejected: "Already handled: the request was rejected, and nothing is opened. There is nothing left for you to do.",
        same_password: "The password is that of your window that is open already: it stays, and works until the last of these windows ends.",
        glass_broken_subject: |target| {
            format!("Latchkey BREAK-GLASS: opened without approval on {target}")
        },
        glass_broken: |requester, role, target| {
            format!(
                "{requester} opened role {role} on {target} without approval, as its document lets them do in an emergency."
            )
        },
        end_it: |request_id| {
            format!(
                "If it should not be open, end it: POST /requests/{request_id}/end with a reason, signed with your own AWS credentials."
            )
        },
        review_it: |requester, reviewers, request_id| {
            format!(
                "Once it is closed, {} must look at what was done and say so: POST /requests/{request_id}/review with a comment, signed with their own AWS credentials. Until then {requester} can open nothing without approval.",
                english_choice(reviewers)
            )
        },
        assume_it: "To assume it, run as yourself. Where it is refused, AWS may need a few minutes more:",
        reviewed_subject: |target| format!("Latchkey: break-glass reviewed on {target}"),
        reviewed: |reviewer, role, target, at| {
            format!(
                "{reviewer} reviewed the opening of role {role} on {target} without approval, {at}:"
            )
        },
        reviewed_next: |requester| {
            format!(
                "Nobody else has to review it. {requester} can open a role without approval again where its document allows that."
            )
        },
        read_password: "The password is in a secret that only you can read. To see it, run as yourself:",
        nothing_left: "Roles, rights, settings, functions and triggers are as they were before the window. Changed passwords and changed data do not show here. There is nothing to do.",
        left_behind: "What the window left behind (+ is new, - was there before)",
        left_behind_next: "Whatever was not part of the work must be undone by the database's administrator. GRAVE ones can be a way back in: look at them now. Changed passwords and changed data do not show here.",
        still_open_subject: |target| format!("Latchkey: window over, role still open on {target}"),
        still_open: |role, target, open_until| {
            format!(
                "This window is over, but role {role} on {target} stays open until {open_until} for another approved window."
            )
        },
        still_open_next: |open_until| {
            format!("It is closed at {open_until}; the message of that window will say so.")
        },
        rejected_subject: |target| format!("Latchkey: request rejected for {target}"),
        rejected: |role, target| {
            format!("The request for role {role} on {target} was rejected. Nothing was opened.")
        },
        expired_subject: |target| format!("Latchkey: request expired for {target}"),
        expired: |role, target| {
            format!(
                "The request for role {role} on {target} expired: not enough people approved in time. Nothing was opened."
            )
        },
        refused_subject: |target| format!("Latchkey: request refused for {target}"),
        refused: |role, target| {
            format!(
                "The request for role {role} on {target} was refused. Nothing is open because of it."
            )
        },
        refused_because: "Because",
        refusal: refusals::refusal,
        cancelled_subject: |target| format!("Latchkey: request cancelled for {target}"),
        cancelled: |role, target| {
            format!("The request for role {role} on {target} was cancelled. Nothing was opened.")
        },
        ended_by: |name, at| format!("{name} ended it before its time, {at}:"),
        failed_subject: |target| format!("Latchkey: request failed for {target}"),
        failed: |role, target| {
            format!(
                "The request for role {role} on {target} failed: something in Latchkey broke. Nothing is open because of it."
            )
        },
        failed_next: "The platform team must look at the execution of this request. If the access is still needed, file a new request.",
        close_failing_goes_on: "Latchkey keeps trying, and says so when it is closed. Do not wait for it: a person must look now.",
        close_policies_by_hand: "To end it by hand, as an administrator of the account of each:",
        close_by_hand: "To close it by hand, as the database's administrator:",
        ask_again: "If the access is still needed, the requester can file a new request.",
    },
};

/// `1 h 30 min`.
fn english_duration(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    let parts: Vec<String> = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ]
    .into_iter()
    .filter(|(count, _)| *count != 0)
    .map(|(count, unit)| format!("{count} {unit}"))
    .collect();
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

/// `Alice, Bob and Carol`.
fn english_list(items: &[String]) -> String {
    match items {
        [] => "nobody".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `Alice, Bob or Carol`.
fn english_choice(items: &[String]) -> String {
    match items {
        [most @ .., one, last] => [most, &[format!("{one} or {last}")]].concat().join(", "),
        _ => english_list(items),
    }
}

pub(crate) fn more_approvals(n_missing: usize) -> String {
    match n_missing {
        1 => "1 more approval".to_owned(),
        _ => format!("{n_missing} more approvals"),
    }
}
