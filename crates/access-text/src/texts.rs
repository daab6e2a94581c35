//! The shape of a language: every sentence a person can meet, each with the pieces it is built from.
//!
//! A language is one `static` of this type. There are no defaults, so that a language that lacks a sentence does not
//! compile, and no templates with holes, so that a sentence that uses a wrong piece does not compile either.

use access_core::{Grant, Language, LiveSessions, Refusal};
use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

/// All sentences of one language: [`crate::ENGLISH`] and [`crate::JAPANESE`].
#[derive(Debug)]
pub struct Texts {
    pub(crate) language: Language,
    pub(crate) words: Words,
    pub(crate) request: RequestTexts,
    pub(crate) login: GrantTexts,
    pub(crate) membership: GrantTexts,
    pub(crate) assume_role: GrantTexts,
    pub(crate) assume_role_run_out: GrantTexts,
    pub(crate) form: FormTexts,
    pub(crate) ending: EndingTexts,
    pub(crate) outcome: OutcomeTexts,
    pub(crate) message: MessageTexts,
}

impl Texts {
    /// The catalogue of a language.
    #[must_use]
    pub fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &crate::ENGLISH,
            Language::Japanese => &crate::JAPANESE,
        }
    }

    /// What is said for this kind of access.
    pub(crate) fn of_grant(&self, grant: &Grant) -> &GrantTexts {
        match grant {
            Grant::Login => &self.login,
            Grant::Membership(_) => &self.membership,
            Grant::AssumeRole(grant) => match grant.live_sessions {
                LiveSessions::Denied => &self.assume_role,
                LiveSessions::RunOut => &self.assume_role_run_out,
            },
        }
    }
}

/// Dates, durations and short words.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) date: fn(NaiveDate) -> String,
    pub(crate) date_and_clock: fn(date: &str, clock: &str) -> String,
    /// Exact, all units that are not zero.
    pub(crate) duration: fn(TimeDelta) -> String,
    pub(crate) in_zone: fn(time: &str, zone: &str, offset: &str) -> String,
    pub(crate) person: fn(name: &str, id: &str) -> String,
    /// A label and what it labels, on one line of plain text.
    pub(crate) labelled: fn(label: &str, value: &str) -> String,
    /// A heading above lines of plain text.
    pub(crate) heading: fn(heading: &str) -> String,
    /// Something with a note to it.
    pub(crate) noted: fn(said: &str, note: &str) -> String,
    /// Between two things on one line.
    pub(crate) comma: &'static str,
    /// A whole sentence of what has no full stop yet.
    pub(crate) sentence: fn(said: &str) -> String,
}

/// What is asked, by whom, when, and what will happen. Shared by pages and messages.
#[derive(Debug)]
pub(crate) struct RequestTexts {
    pub(crate) asked: &'static str,
    pub(crate) who: &'static str,
    pub(crate) claimed: &'static str,
    pub(crate) claimed_hint: &'static str,
    pub(crate) verified: &'static str,
    pub(crate) verified_hint: &'static str,
    pub(crate) what: &'static str,
    pub(crate) role_on_target: fn(role: &str, target: &str) -> String,
    pub(crate) role: &'static str,
    pub(crate) member_of: fn(roles: &[String]) -> String,
    pub(crate) acted_as_by: fn(roles: &[String]) -> String,
    pub(crate) creates_roles: &'static str,
    pub(crate) creates_databases: &'static str,
    pub(crate) replicates: &'static str,
    pub(crate) bypasses_row_security: &'static str,
    pub(crate) may_assume: fn(grantee: &str, role_arn: &str, name: &str) -> String,
    pub(crate) sessions_run_out: fn(duration: &str) -> String,
    pub(crate) ends_sessions: &'static str,
    pub(crate) opened_outside_windows: &'static str,
    pub(crate) reaches_latchkey: &'static str,
    pub(crate) rights: &'static str,
    pub(crate) and_more: fn(n_more: usize) -> String,
    /// A window that goes on from one that its requester has open: the label, and what is said while people decide,
    /// once it is approved, and of one that adds nothing.
    pub(crate) extension: &'static str,
    pub(crate) extends: fn(open_until: &str, until: &str) -> String,
    pub(crate) extended: fn(open_until: &str, until: &str) -> String,
    pub(crate) extends_nothing: fn(open_until: &str) -> String,
    pub(crate) other_windows: &'static str,
    pub(crate) other_window: fn(start: &str, end: &str, request_id: &str) -> String,
    pub(crate) other_window_is_open: fn(end: &str, request_id: &str) -> String,
    pub(crate) foreign_characters: fn(code_points: &str) -> String,
    pub(crate) why: &'static str,
    pub(crate) requester_says: &'static str,
    pub(crate) made_harmless: &'static str,
    pub(crate) when: &'static str,
    pub(crate) opens: &'static str,
    pub(crate) closes: &'static str,
    pub(crate) how_long: &'static str,
    pub(crate) as_soon_as_approved: &'static str,
    pub(crate) not_before: fn(start: &str) -> String,
    pub(crate) asked_for: &'static str,
    pub(crate) narrowed: &'static str,
    pub(crate) from_to: fn(start: &str, end: &str) -> String,
    pub(crate) from_approval_until: fn(end: &str) -> String,
    pub(crate) from_approval_for: fn(duration: &str) -> String,
    pub(crate) only_from: fn(start: &str) -> String,
    pub(crate) only_until: fn(end: &str) -> String,
    pub(crate) only_from_to: fn(start: &str, end: &str) -> String,
    pub(crate) planned_start_passed: fn(start: &str) -> String,
    pub(crate) after_approval: fn(duration: &str) -> String,
    pub(crate) latest_end: fn(end: &str) -> String,
    pub(crate) starts_in: fn(time_left: &str) -> String,
    pub(crate) would_remain: fn(left: &str, asked: &str) -> String,
    pub(crate) if_approved_now: fn(duration: &str) -> String,
    pub(crate) who_decides: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) approvals_needed: fn(n_required: usize, approvers: &[String]) -> String,
    pub(crate) decide_by: &'static str,
    pub(crate) time_left: fn(time_left: &str) -> String,
    pub(crate) deadline_passed: &'static str,
    pub(crate) decisions: &'static str,
    pub(crate) progress: fn(n_approved: usize, n_required: usize) -> String,
    pub(crate) approved_by: fn(name: &str) -> String,
    pub(crate) rejected_by: fn(name: &str) -> String,
    /// In place of an approval, and of the rule about approvals, where the glass was broken.
    pub(crate) opened_without_approval: fn(requester: &str) -> String,
    pub(crate) without_approval: fn(requester: &str, reviewers: &[String]) -> String,
    pub(crate) request_id: &'static str,
    pub(crate) next: &'static str,
    pub(crate) next_is_open_for: fn(requester: &str) -> String,
    pub(crate) next_expires: fn(decide_by: &str) -> String,
}

/// The names that such sentences speak of, harmless. With a login, role and user are the same.
#[derive(Debug)]
pub(crate) struct Given {
    /// The PostgreSQL role whose rights the window gives.
    pub(crate) role: String,
    /// The PostgreSQL user who has them.
    pub(crate) user: String,
}

/// What is said in a way of its own for each kind of access.
#[derive(Debug)]
pub(crate) struct GrantTexts {
    /// The label of the target.
    pub(crate) place: &'static str,
    /// What the window gives.
    pub(crate) kind: fn(&Given) -> String,
    pub(crate) lead: fn(requester: &str, how_long: &str) -> String,
    pub(crate) next_opens_when_approved: fn(n_missing: usize) -> String,
    pub(crate) next_opens_at_when_approved: fn(n_missing: usize, start: &str) -> String,
    pub(crate) next_opens_now: &'static str,
    pub(crate) next_is_open_now: &'static str,
    pub(crate) next_opens_at: fn(start: &str) -> String,
    pub(crate) next_is_open: fn(&Given) -> String,
    pub(crate) next_closes_at: fn(end: &str) -> String,
    pub(crate) next_closes_after: fn(duration: &str) -> String,
    pub(crate) next_closes_after_at_latest: fn(duration: &str, end: &str) -> String,
    pub(crate) end_window_means: &'static str,
    pub(crate) already_open: &'static str,
    pub(crate) already_closed: &'static str,
    pub(crate) open: &'static str,
    pub(crate) closing_now: &'static str,
    pub(crate) ask: fn(approver: &str, requester: &str) -> String,
    pub(crate) remind: fn(approver: &str, requester: &str, time_left: &str) -> String,
    pub(crate) ends_soon_subject: fn(target: &str) -> String,
    pub(crate) ends_soon: fn(role: &str, target: &str, end: &str) -> String,
    pub(crate) ends_soon_next: &'static str,
    pub(crate) opened_subject: fn(target: &str) -> String,
    pub(crate) opened: fn(role: &str, target: &str) -> String,
    pub(crate) closed_subject: fn(target: &str) -> String,
    pub(crate) closed: fn(role: &str, target: &str, at: &str) -> String,
    pub(crate) closed_next: &'static str,
    pub(crate) close_failing_subject: fn(target: &str) -> String,
    pub(crate) close_failing: fn(role: &str, target: &str) -> String,
}

/// The decision page.
#[derive(Debug)]
pub(crate) struct FormTexts {
    pub(crate) heading: fn(role: &str, target: &str) -> String,
    pub(crate) go_to_decision: &'static str,
    pub(crate) your_decision: &'static str,
    pub(crate) deciding_as: fn(name: &str) -> String,
    pub(crate) comment: &'static str,
    pub(crate) comment_hint: fn(max_chars: usize) -> String,
    pub(crate) narrow: &'static str,
    pub(crate) narrow_hint: fn(zone: &str) -> String,
    pub(crate) start_later: &'static str,
    pub(crate) end_earlier: &'static str,
    pub(crate) not_before_hint: fn(earliest: &str) -> String,
    pub(crate) not_after_hint: fn(latest: &str) -> String,
    pub(crate) time_unreadable: &'static str,
    pub(crate) time_twice: fn(zone: &str) -> String,
    pub(crate) time_never: fn(zone: &str) -> String,
    pub(crate) start_too_early: fn(earliest: &str) -> String,
    pub(crate) end_too_late: fn(latest: &str) -> String,
    pub(crate) too_short: fn(left: &str, least: &str) -> String,
    pub(crate) too_short_together: fn(left: &str, least: &str) -> String,
    pub(crate) role_in_use: fn(name: &str, until: &str) -> String,
    pub(crate) role_in_use_by_hand: fn(until: &str) -> String,
    pub(crate) role_in_use_by_somebody: fn(until: &str) -> String,
    pub(crate) type_role: &'static str,
    pub(crate) type_role_hint: &'static str,
    pub(crate) approve: &'static str,
    pub(crate) reject: &'static str,
    pub(crate) not_recorded: &'static str,
    pub(crate) no_decision: &'static str,
    pub(crate) role_does_not_match: fn(role: &str) -> String,
    pub(crate) comment_too_long: fn(max_chars: usize, n_chars: usize) -> String,
    pub(crate) comment_missing: &'static str,
    pub(crate) as_of: fn(time: &str) -> String,
    pub(crate) never_asks: &'static str,
}

/// The form that ends a request or its window.
#[derive(Debug)]
pub(crate) struct EndingTexts {
    pub(crate) cancel: &'static str,
    pub(crate) cancel_means: &'static str,
    pub(crate) cancel_now: &'static str,
    pub(crate) end_window: &'static str,
    pub(crate) end_window_now: &'static str,
    pub(crate) ending_as: fn(name: &str) -> String,
    pub(crate) reason: &'static str,
    pub(crate) reason_hint: fn(max_chars: usize) -> String,
    pub(crate) reason_missing: &'static str,
    pub(crate) reason_too_long: fn(max_chars: usize, n_chars: usize) -> String,
    pub(crate) type_role: &'static str,
    pub(crate) type_role_hint: &'static str,
    pub(crate) role_does_not_match: fn(role: &str) -> String,
    pub(crate) not_pressed: fn(button: &str) -> String,
}

/// Pages after a decision, and pages instead of one. Each a headline and a sentence.
#[derive(Debug)]
pub(crate) struct OutcomeTexts {
    pub(crate) approved_waits: &'static str,
    pub(crate) approved_waits_for: fn(n_missing: usize) -> String,
    pub(crate) approved: &'static str,
    pub(crate) approved_done: &'static str,
    pub(crate) rejected: &'static str,
    pub(crate) rejected_done: &'static str,
    pub(crate) already_decided: &'static str,
    pub(crate) already_by_you: fn(at: &str) -> String,
    pub(crate) already_by: fn(names: &[String], at: &str) -> String,
    pub(crate) already_approved: &'static str,
    pub(crate) already_open_without_approval: &'static str,
    pub(crate) already_ended: &'static str,
    pub(crate) already_rejected: &'static str,
    pub(crate) already_refused: &'static str,
    pub(crate) already_cancelled: &'static str,
    pub(crate) waits: &'static str,
    pub(crate) still_waits: &'static str,
    pub(crate) over: &'static str,
    pub(crate) refused: &'static str,
    pub(crate) cancelled: &'static str,
    pub(crate) expired: &'static str,
    pub(crate) expired_at: fn(decide_by: &str) -> String,
    pub(crate) window_passed: fn(end: &str) -> String,
    pub(crate) nothing_opened: &'static str,
    pub(crate) cannot_decide: &'static str,
    pub(crate) you_are_the_requester: &'static str,
    pub(crate) not_an_approver: &'static str,
    pub(crate) only_by_signed_call: &'static str,
    pub(crate) invalid_link: &'static str,
    pub(crate) invalid_link_help: &'static str,
    pub(crate) bad_form: &'static str,
    pub(crate) bad_form_help: &'static str,
    pub(crate) too_many: &'static str,
    pub(crate) too_many_help: &'static str,
    pub(crate) temporary: &'static str,
    pub(crate) temporary_help: &'static str,
    pub(crate) reference: &'static str,
    pub(crate) may_close: &'static str,
}

/// Messages. Subjects must be ASCII (SNS), whatever the language; the request's id is added to them.
#[derive(Debug)]
pub(crate) struct MessageTexts {
    pub(crate) ask_subject: fn(target: &str) -> String,
    pub(crate) remind_subject: fn(target: &str) -> String,
    pub(crate) decide_here: &'static str,
    pub(crate) link_is_personal: &'static str,
    /// To a chat channel, which gets no link.
    pub(crate) decide_by_call: fn(command: &str) -> String,
    /// To the requester, once the approvers have been asked.
    pub(crate) accepted_subject: fn(target: &str) -> String,
    pub(crate) accepted: fn(role: &str, target: &str) -> String,
    pub(crate) end_here: &'static str,
    pub(crate) end_link_is_personal: &'static str,
    pub(crate) approved_subject: fn(target: &str) -> String,
    pub(crate) approved: fn(role: &str, target: &str) -> String,
    /// To an approver who has not decided, under an approval or a rejection.
    pub(crate) already_handled: &'static str,
    /// The same under a rejection.
    pub(crate) already_rejected: &'static str,
    /// To everybody concerned, when a window was opened without approval.
    pub(crate) glass_broken_subject: fn(target: &str) -> String,
    pub(crate) glass_broken: fn(requester: &str, role: &str, target: &str) -> String,
    pub(crate) end_it: fn(request_id: &str) -> String,
    pub(crate) review_it: fn(requester: &str, reviewers: &[String], request_id: &str) -> String,
    pub(crate) reviewed_subject: fn(target: &str) -> String,
    /// Above what the reviewer wrote.
    pub(crate) reviewed: fn(reviewer: &str, role: &str, target: &str, at: &str) -> String,
    pub(crate) reviewed_next: fn(requester: &str) -> String,
    pub(crate) read_password: &'static str,
    /// In the place of a new password.
    pub(crate) same_password: &'static str,
    pub(crate) assume_it: &'static str,
    pub(crate) nothing_left: &'static str,
    pub(crate) left_behind: &'static str,
    pub(crate) left_behind_next: &'static str,
    pub(crate) still_open_subject: fn(target: &str) -> String,
    pub(crate) still_open: fn(role: &str, target: &str, open_until: &str) -> String,
    pub(crate) still_open_next: fn(open_until: &str) -> String,
    pub(crate) rejected_subject: fn(target: &str) -> String,
    pub(crate) rejected: fn(role: &str, target: &str) -> String,
    pub(crate) expired_subject: fn(target: &str) -> String,
    pub(crate) expired: fn(role: &str, target: &str) -> String,
    pub(crate) refused_subject: fn(target: &str) -> String,
    pub(crate) refused: fn(role: &str, target: &str) -> String,
    pub(crate) refused_because: &'static str,
    pub(crate) refusal: fn(&Refusal, zone: Tz) -> String,
    pub(crate) cancelled_subject: fn(target: &str) -> String,
    pub(crate) cancelled: fn(role: &str, target: &str) -> String,
    pub(crate) ended_by: fn(name: &str, at: &str) -> String,
    pub(crate) failed_subject: fn(target: &str) -> String,
    pub(crate) failed: fn(role: &str, target: &str) -> String,
    pub(crate) failed_next: &'static str,
    pub(crate) close_failing_goes_on: &'static str,
    pub(crate) close_by_hand: &'static str,
    pub(crate) close_policies_by_hand: &'static str,
    pub(crate) ask_again: &'static str,
}
