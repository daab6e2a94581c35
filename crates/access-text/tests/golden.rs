//! Rendered pages and messages, compared with files that people review. `UPDATE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::PathBuf;

use access_core::grant::Membership;
use access_core::overlap::{Holder, InUse};
use access_core::subscription::{Distrust, Distrusted};
use access_core::{
    AssumeRole, CannotApprove, Fault, FaultName, Finding, Grant, GrantedRoleName, LiveSessions,
    Narrowing, PersonId, Refusal, RequestId, RoleName,
};
use access_text::{
    Announcement, CannotDecide, DecisionView, Draft, ENGLISH, EndDraft, EndOffer, EndProblem,
    EndTyped, EndingView, FIELD_START, FormProblem, JAPANESE, Message, OtherWindow, Page,
    PersonView, RequestView, Stage, Texts, Trouble, Typed, WindowView, already_decided_page,
    announce, announce_already_handled, announce_with_link, ask, cannot_decide_page, decided_page,
    decision_page, expired_page, invalid_link_page, remind, security_headers, settled_page,
    standing_page, trouble_page,
};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::Digest;

const LINK: &str = "https://a1b2c3.execute-api.us-east-1.amazonaws.com/decide/1.bGF0Y2hrZXk.c2VhbA";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn now() -> DateTime<Utc> {
    at("2026-11-22T07:48:00Z")
}

fn person(id: &str, name: &str) -> PersonView {
    PersonView {
        id: id.to_owned(),
        name: name.to_owned(),
    }
}

fn alice() -> PersonView {
    person("alice", "Alice Example")
}

fn bob() -> PersonView {
    person("bob", "Bob Example")
}

/// A request as it should be: in an hour or two, for ninety minutes, two of three people.
fn request() -> RequestView {
    RequestView {
        request_id: "20261122-7k3m9q".to_owned(),
        target: "orders-prod".to_owned(),
        role: "breakglass".to_owned(),
        findings: Vec::new(),
        other_windows: Vec::new(),
        requester: person("riko", "Riko Example"),
        requester_is_verified: false,
        ending: None,
        reviewers: None,
        reason: "The nightly settlement is stuck on a lock since 05:10.\nEnd the blocking session and restart the job, \
                 see ticket OPS-1234."
            .to_owned(),
        window: WindowView::Fixed { start: at("2026-11-22T10:00:00Z"), end: at("2026-11-22T11:30:00Z") },
        asked: None,
        grant: Grant::Login,
        credential: access_core::RoleCredential::Existing,
        zone: Tz::Asia__Tokyo,
        decide_by: at("2026-11-22T10:00:00Z"),
        required_approvals: 2,
        approvers: vec![alice(), bob(), person("chiyo", "Chiyo Example")],
        decisions: Vec::new(),
    }
}

fn approval(person: PersonView, time: &str, comment: &str) -> DecisionView {
    DecisionView {
        person,
        approved: true,
        at: at(time),
        comment: comment.to_owned(),
        narrowing: None,
    }
}

fn rejection(person: PersonView, time: &str, comment: &str) -> DecisionView {
    DecisionView {
        person,
        approved: false,
        at: at(time),
        comment: comment.to_owned(),
        narrowing: None,
    }
}

fn half_approved() -> RequestView {
    let decisions = vec![approval(
        bob(),
        "2026-11-22T07:31:12Z",
        "Known problem, go ahead.",
    )];
    RequestView {
        decisions,
        ..request()
    }
}

fn approved() -> RequestView {
    let mut request = half_approved();
    request
        .decisions
        .push(approval(alice(), "2026-11-22T07:48:00Z", ""));
    request
}

fn rejected() -> RequestView {
    let mut request = half_approved();
    request.decisions.push(rejection(
        alice(),
        "2026-11-22T07:48:00Z",
        "Not during the sale.\nPlease ask again after 14:00.",
    ));
    request
}

/// Riko ended it.
fn ending() -> EndingView {
    EndingView {
        by: person("riko", "Riko Example"),
        at: at("2026-11-22T07:45:00Z"),
        why: "The job runs again, not needed any more.".to_owned(),
    }
}

/// Taken back while Bob's approval was there.
fn without_approval() -> RequestView {
    let request = request();
    RequestView {
        requester_is_verified: true,
        required_approvals: 1,
        reviewers: Some(vec![bob(), person("sato", "Sato Example")]),
        decisions: vec![approval(
            request.requester.clone(),
            "2026-11-22T10:00:00Z",
            "",
        )],
        credential: access_core::RoleCredential::PerWindow,
        ..request
    }
}

fn cancelled() -> RequestView {
    RequestView {
        ending: Some(ending()),
        ..half_approved()
    }
}

/// Bob left 45 of the 90 minutes.
fn narrowed() -> RequestView {
    let (start, end) = (at("2026-11-22T10:15:00Z"), at("2026-11-22T11:00:00Z"));
    let mut bobs = approval(bob(), "2026-11-22T07:31:12Z", "Out before the sale.");
    bobs.narrowing = Narrowing::new(Some(start), Some(end));
    RequestView {
        window: WindowView::Fixed { start, end },
        asked: Some(request().window),
        decide_by: at("2026-11-22T10:00:00Z"),
        decisions: vec![bobs],
        ..request()
    }
}

/// Bob narrowed a request for 45 minutes from the approval on.
fn narrowed_as_soon_as_approved() -> RequestView {
    let end = at("2026-11-22T08:20:00Z");
    let start = at("2026-11-22T08:00:00Z");
    let mut bobs = approval(bob(), "2026-11-22T07:41:12Z", "");
    bobs.narrowing = Narrowing::new(Some(start), Some(end));
    RequestView {
        window: WindowView::FromApprovalFor {
            duration: TimeDelta::minutes(45),
            latest_end: end,
            not_before: Some(start),
        },
        asked: Some(as_soon_as_approved().window),
        decide_by: at("2026-11-22T08:19:00Z"),
        required_approvals: 2,
        decisions: vec![bobs],
        ..as_soon_as_approved()
    }
}

/// Everything that people write is hostile, and names are not ASCII.
fn hostile() -> RequestView {
    RequestView {
        role: "r\u{43E}le \"x\" & <b>".to_owned(),
        requester: person("riko<script>", "Riko\u{202E} https://evil.example/approve\r\nBcc: all@corp.example"),
        reason: "<script>alert(1)</script> <!channel> <https://evil.example|Approve here>\r\n\
                 Approve: http://evil.example/decide/1 or www.evil.example or evil.example/x or mailto:riko@evil.example\n\
                 \u{202E}desrever\u{202C} \u{200B}zero\u{200B}width \0 NUL \u{9B}31m \u{FFFE} \u{E0041}tags\u{E007F}\n\
                 \n\n\n\n\n\n{{ 7 * 7 }} ${7*7} %0d%0a \"quoted\" 'single' &amp; \u{5E9}\u{5DC}\u{5D5}\u{5DD} 本番の障害対応。"
            .to_owned(),
        decisions: vec![approval(
            person("bob", "Bob <img src=x onerror=alert(1)>"),
            "2026-11-22T07:31:12Z",
            "\"><script>alert(2)</script> see https://evil.example",
        )],
        ..request()
    }
}

fn as_soon_as_approved() -> RequestView {
    RequestView {
        window: WindowView::FromApprovalFor {
            duration: TimeDelta::minutes(45),
            latest_end: at("2026-11-22T12:45:00Z"),
            not_before: None,
        },
        decide_by: at("2026-11-22T12:00:00Z"),
        required_approvals: 1,
        approvers: vec![alice(), bob()],
        ..request()
    }
}

fn until_fixed_end() -> RequestView {
    RequestView {
        window: WindowView::FromApprovalUntil {
            end: at("2026-11-22T11:30:20Z"),
        },
        ..request()
    }
}

fn late() -> RequestView {
    RequestView {
        window: WindowView::Fixed {
            start: at("2026-11-22T07:00:00Z"),
            end: at("2026-11-22T09:00:00Z"),
        },
        decide_by: at("2026-11-22T09:00:00Z"),
        credential: access_core::RoleCredential::Existing,
        zone: Tz::UTC,
        ..request()
    }
}

fn draft(problem: FormProblem, comment: &str, role: &str) -> Draft {
    let typed = Typed {
        comment: comment.to_owned(),
        role: role.to_owned(),
        ..Typed::default()
    };
    Draft::new(problem, typed)
}

#[track_caller]
fn check(file: &str, rendered: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let folder = path.parent().expect("the file is in a folder");
        fs::create_dir_all(folder).expect("the folder can be made");
        fs::write(&path, rendered).expect("the file can be written");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == rendered,
        "{file} differs from what is rendered now; run UPDATE_GOLDEN=1 cargo test -p access-text and review the diff"
    );
}

/// Every catalogue, and the folder of its files.
const CATALOGUES: [(&Texts, &str); 2] = [(&ENGLISH, ""), (&JAPANESE, "ja/")];

#[track_caller]
fn check_page(file: &str, status: u16, page: impl Fn(&Texts) -> Page) {
    for (texts, folder) in CATALOGUES {
        let page = page(texts);
        assert_eq!(page.status, status);
        check(&format!("pages/{folder}{file}.html"), &page.html);
    }
}

#[track_caller]
fn check_message(file: &str, message: impl Fn(&Texts) -> Message) {
    for (texts, folder) in CATALOGUES {
        check_one_message(&format!("messages/{folder}{file}.txt"), &message(texts));
    }
}

#[track_caller]
fn check_one_message(file: &str, message: &Message) {
    let subject = &message.subject;
    assert!(subject.is_ascii() && subject.len() < 100, "{subject}");
    assert!(
        subject.starts_with(|first: char| first.is_ascii_alphabetic()),
        "{subject}"
    );
    assert!(
        !subject.contains(|it: char| it.is_ascii_control()),
        "{subject}"
    );
    assert!(
        subject.contains("20261122-7k3m9q") && subject.contains("orders-prod"),
        "{subject}"
    );
    check(file, &format!("Subject: {subject}\n\n{}\n", message.body));
}

#[test]
fn decision_page_for_a_fixed_window() {
    check_page("decision", 200, |texts| {
        decision_page(texts, &request(), &alice(), None, now())
    });
}

#[test]
fn decision_page_after_the_first_approval() {
    check_page("decision_half_approved", 200, |texts| {
        decision_page(texts, &half_approved(), &alice(), None, now())
    });
}

#[test]
fn decision_page_as_soon_as_approved() {
    let page = |texts: &Texts| decision_page(texts, &as_soon_as_approved(), &alice(), None, now());
    check_page("decision_as_soon_as_approved", 200, page);
}

#[test]
fn decision_page_until_a_fixed_end() {
    check_page("decision_until", 200, |texts| {
        decision_page(texts, &until_fixed_end(), &alice(), None, now())
    });
}

#[test]
fn decision_page_of_a_verified_requester() {
    let verified = RequestView {
        requester_is_verified: true,
        ..request()
    };
    check_page("decision_verified", 200, |texts| {
        decision_page(texts, &verified, &alice(), None, now())
    });
}

#[test]
fn decision_page_after_the_planned_start() {
    check_page("decision_late", 200, |texts| {
        decision_page(texts, &late(), &alice(), None, now())
    });
}

#[test]
fn decision_page_with_what_the_database_says() {
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    let request = RequestView {
        findings: vec![
            Finding::MemberOf {
                roles: names(&["app_owner", "rds_superuser"]),
            },
            Finding::ActedAsBy {
                roles: names(&["deploy", "master"]),
            },
            Finding::CreateDatabase,
        ],
        other_windows: vec![
            OtherWindow {
                request_id: "20261122-aaaaaa".to_owned(),
                start: at("2026-11-22T07:00:00Z"),
                end: at("2026-11-22T10:30:00Z"),
                of_requester: false,
            },
            OtherWindow {
                request_id: "20261122-bbbbbb".to_owned(),
                start: at("2026-11-22T14:00:00Z"),
                end: at("2026-11-22T15:30:00Z"),
                of_requester: false,
            },
        ],
        ..half_approved()
    };
    check_page("decision_findings", 200, |texts| {
        decision_page(texts, &request, &alice(), None, now())
    });
    check_message("ask_findings", |texts| {
        ask(texts, &request, &alice(), LINK, now())
    });
}

/// Riko has the role open, and asks for more.
fn extending(request: RequestView) -> RequestView {
    RequestView {
        other_windows: vec![OtherWindow {
            request_id: "20261122-aaaaaa".to_owned(),
            start: at("2026-11-22T07:00:00Z"),
            end: at("2026-11-22T08:00:00Z"),
            of_requester: true,
        }],
        ..request
    }
}

#[test]
fn decision_page_and_messages_of_an_extension() {
    let request = extending(as_soon_as_approved());
    check_page("decision_extension", 200, |texts| {
        decision_page(texts, &request, &alice(), None, now())
    });
    check_message("ask_extension", |texts| {
        ask(texts, &request, &alice(), LINK, now())
    });
    let window = WindowView::Fixed {
        start: at("2026-11-22T07:48:00Z"),
        end: at("2026-11-22T09:18:00Z"),
    };
    let opened = extending(RequestView {
        window,
        credential: access_core::RoleCredential::PerWindow,
        ..approved()
    });
    let event = Announcement::OpenedWithPassword {
        read_it: "aws secretsmanager get-secret-value --secret-id latchkey/x".to_owned(),
    };
    check_message("opened_extension", |texts| {
        announce(texts, &opened, &event, now())
    });
}

#[test]
fn an_extension_is_only_what_goes_on_from_an_open_window_of_the_same_person() {
    let says = |request: &RequestView| {
        let page = decision_page(&ENGLISH, request, &alice(), None, now());
        page.html.contains(">Extension<")
    };
    let asked = as_soon_as_approved();
    assert!(says(&extending(asked.clone())));
    assert!(!says(&asked));
    let mut of_somebody_else = extending(asked.clone());
    of_somebody_else.other_windows[0].of_requester = false;
    assert!(!says(&of_somebody_else));
    let mut not_open_yet = extending(asked.clone());
    not_open_yet.other_windows[0].start = at("2026-11-22T07:50:00Z");
    assert!(!says(&not_open_yet));
    // A start at 10:00 leaves a gap after 08:00.
    assert!(!says(&extending(request())));
    let mut shorter = extending(asked);
    shorter.other_windows[0].end = at("2026-11-23T08:30:00Z");
    let page = decision_page(&ENGLISH, &shorter, &alice(), None, now());
    assert!(
        page.html.contains("does not make that longer"),
        "{}",
        page.html
    );
}

#[test]
fn decision_page_with_hostile_text() {
    let page =
        |texts: &Texts| decision_page(texts, &hostile(), &person("alice", "<Alice>"), None, now());
    check_page("decision_hostile", 200, page);
    for live in [
        "<script",
        "<img",
        "<b>",
        "://",
        "\u{202E}",
        "\u{200B}",
        "evil.example",
        "onerror=alert(1)>",
    ] {
        assert!(!page(&ENGLISH).html.contains(live), "{live}");
    }
}

#[test]
fn decision_page_with_problems() {
    for (file, problem, comment, role) in [
        (
            "problem_role",
            FormProblem::RoleDoesNotMatch,
            "Go ahead </textarea><script>",
            "breakglas\"><script>",
        ),
        (
            "problem_comment_missing",
            FormProblem::CommentMissing,
            "",
            "breakglass",
        ),
        (
            "problem_comment_too_long",
            FormProblem::CommentTooLong,
            &*"ä".repeat(501),
            "",
        ),
        (
            "problem_no_decision",
            FormProblem::NoDecision,
            "kept",
            "breakglass",
        ),
    ] {
        let page = |texts: &Texts| {
            decision_page(
                texts,
                &request(),
                &alice(),
                Some(&draft(problem.clone(), comment, role)),
                now(),
            )
        };
        check_page(file, 422, page);
        assert!(!page(&ENGLISH).html.contains("<script"), "{file}");
    }
}

#[test]
fn decision_page_after_others_narrowed() {
    let page = |texts: &Texts| decision_page(texts, &narrowed(), &alice(), None, now());
    check_page("decision_narrowed", 200, page);
    let request = narrowed_as_soon_as_approved();
    let page = |texts: &Texts| decision_page(texts, &request, &alice(), None, now());
    check_page("decision_narrowed_as_soon_as_approved", 200, page);
}

#[test]
fn decision_page_with_a_problem_in_the_narrowing() {
    let (left, least) = (TimeDelta::seconds(30), TimeDelta::minutes(1));
    let earliest = at("2026-11-22T10:00:00Z");
    let latest = at("2026-11-22T11:30:00Z");
    let not_a_time = |fault| FormProblem::NotATime {
        field: FIELD_START,
        fault,
    };
    for (file, problem, start, end) in [
        (
            "problem_start_too_early",
            FormProblem::CannotApprove(CannotApprove::StartTooEarly { earliest }),
            "2026-11-22T18:59",
            "",
        ),
        (
            "problem_end_too_late",
            FormProblem::CannotApprove(CannotApprove::EndTooLate { latest }),
            "",
            "2026-11-22T20:31",
        ),
        (
            "problem_too_short",
            FormProblem::CannotApprove(CannotApprove::TooShort { left, least }),
            "2026-11-22T20:29:30",
            "",
        ),
        (
            "problem_too_short_together",
            FormProblem::CannotApprove(CannotApprove::TooShortTogether {
                left: TimeDelta::zero(),
                least,
            }),
            "2026-11-22T20:15",
            "2026-11-22T20:25",
        ),
        (
            "problem_role_in_use",
            FormProblem::CannotApprove(CannotApprove::RoleInUse(InUse {
                holder: Holder::Person("Bob Example".to_owned()),
                until: at("2026-11-22T10:45:00Z"),
            })),
            "",
            "",
        ),
        (
            "problem_time_unreadable",
            not_a_time(FaultName::InvalidTime),
            "tomorrow \"><script>",
            "",
        ),
        (
            "problem_time_twice",
            not_a_time(FaultName::AmbiguousLocalTime),
            "2026-10-25T02:30",
            "",
        ),
        (
            "problem_time_never",
            not_a_time(FaultName::NonexistentLocalTime),
            "2027-03-28T02:30",
            "",
        ),
    ] {
        let typed = Typed {
            role: "breakglass".to_owned(),
            start: start.to_owned(),
            end: end.to_owned(),
            ..Typed::default()
        };
        let draft = Draft::new(problem, typed);
        let page = |texts: &Texts| decision_page(texts, &narrowed(), &alice(), Some(&draft), now());
        check_page(file, 422, page);
        assert!(!page(&ENGLISH).html.contains("<script"), "{file}");
    }
}

#[test]
fn decided_pages() {
    let mut first = request();
    first
        .decisions
        .push(approval(alice(), "2026-11-22T07:48:00Z", ""));
    check_page("decided_approved_waits", 200, |texts| {
        decided_page(texts, &first, &alice(), now())
    });
    check_page("decided_approved", 200, |texts| {
        decided_page(texts, &approved(), &alice(), now())
    });
    let mut narrowed = narrowed();
    narrowed
        .decisions
        .push(approval(alice(), "2026-11-22T07:48:00Z", ""));
    check_page("decided_narrowed", 200, |texts| {
        decided_page(texts, &narrowed, &alice(), now())
    });
    check_page("decided_rejected", 200, |texts| {
        decided_page(texts, &rejected(), &alice(), now())
    });
}

#[test]
fn already_decided_pages() {
    check_page("already_decided_waits", 200, |texts| {
        already_decided_page(texts, &half_approved(), &bob(), None, now())
    });
    check_page("already_decided_approved", 200, |texts| {
        already_decided_page(texts, &approved(), &alice(), None, now())
    });
    let chiyo = person("chiyo", "Chiyo Example");
    check_page("already_decided_rejected", 200, |texts| {
        already_decided_page(texts, &rejected(), &chiyo, None, now())
    });
}

#[test]
fn settled_pages() {
    let during = at("2026-11-22T10:30:00Z");
    let after = at("2026-11-22T11:31:00Z");
    for (file, request, stage, now) in [
        ("settled_approved", approved(), Stage::Approved, now()),
        ("settled_open", approved(), Stage::Open, during),
        (
            "settled_ended",
            approved(),
            Stage::EndedRoleStillOpen,
            after,
        ),
        ("settled_closed", approved(), Stage::Closed, after),
        ("settled_rejected", rejected(), Stage::Rejected, now()),
        ("settled_refused", approved(), Stage::Refused, now()),
        ("settled_cancelled", cancelled(), Stage::Cancelled, now()),
    ] {
        let page = |texts: &Texts| settled_page(texts, &request, &alice(), stage, None, now);
        check_page(file, 200, page);
        let promises = page(&ENGLISH).html.contains("The login opens");
        assert_eq!(promises, stage == Stage::Approved, "{file}");
    }
}

#[test]
fn pages_that_offer_to_end_it() {
    let riko = person("riko", "Riko Example");
    let during = at("2026-11-22T10:30:00Z");
    for (file, request, stage, offered, now) in [
        (
            "end_waiting",
            half_approved(),
            Stage::Waiting,
            Some(false),
            now(),
        ),
        (
            "end_approved",
            approved(),
            Stage::Approved,
            Some(false),
            now(),
        ),
        ("end_open", approved(), Stage::Open, Some(true), during),
        (
            "end_open_without_approval",
            without_approval(),
            Stage::Open,
            Some(true),
            during,
        ),
        ("end_closing", cancelled(), Stage::Closing, None, during),
        ("end_cancelled", cancelled(), Stage::Cancelled, None, now()),
    ] {
        let offer = offered.map(|is_open| EndOffer {
            person: &riko,
            is_open,
            draft: None,
        });
        let page = |texts: &Texts| standing_page(texts, &request, stage, offer.as_ref(), now);
        check_page(file, 200, page);
        let offers = page(&ENGLISH).html.contains("<form");
        assert_eq!(offers, offered.is_some(), "{file}");
    }
    let alice = alice();
    let of_approver = EndOffer {
        person: &alice,
        is_open: true,
        draft: None,
    };
    check_page("settled_open_end", 200, |texts| {
        settled_page(
            texts,
            &approved(),
            &alice,
            Stage::Open,
            Some(&of_approver),
            during,
        )
    });
    for (file, problem, reason, role) in [
        (
            "end_problem_reason",
            EndProblem::ReasonMissing,
            "",
            "breakglass",
        ),
        (
            "end_problem_role",
            EndProblem::RoleDoesNotMatch,
            "</textarea><script>",
            "\"><script>",
        ),
        (
            "end_problem_long",
            EndProblem::ReasonTooLong,
            &*"ä".repeat(501),
            "",
        ),
        (
            "end_problem_button",
            EndProblem::NotPressed,
            "done",
            "breakglass",
        ),
    ] {
        let typed = EndTyped {
            ending: None,
            role: role.to_owned(),
            reason: reason.to_owned(),
        };
        let draft = EndDraft::new(problem, typed);
        let offer = EndOffer {
            person: &riko,
            is_open: true,
            draft: Some(&draft),
        };
        let page =
            |texts: &Texts| standing_page(texts, &approved(), Stage::Open, Some(&offer), during);
        check_page(file, 422, page);
        assert!(!page(&ENGLISH).html.contains("<script"), "{file}");
    }
}

#[test]
fn pages_instead_of_a_decision() {
    let after = at("2026-11-22T10:00:00Z");
    check_page("expired", 410, |texts| {
        expired_page(texts, &half_approved(), after)
    });
    check_page("expired_window_passed", 410, |texts| {
        expired_page(texts, &late(), after)
    });
    let why = CannotDecide::YouAreTheRequester;
    check_page("cannot_decide_requester", 403, |texts| {
        cannot_decide_page(texts, &request(), why, now())
    });
    let why = CannotDecide::OnlyBySignedCall;
    check_page("cannot_decide_only_by_signed_call", 403, |texts| {
        cannot_decide_page(texts, &request(), why, now())
    });
    let why = CannotDecide::NotAnApprover;
    check_page("cannot_decide_not_an_approver", 403, |texts| {
        cannot_decide_page(texts, &request(), why, now())
    });
    check_page("invalid_link", 404, invalid_link_page);
    let reference = "3f0c1a52-5a0b-4c5e-9d59-0d2f6a1c7e11";
    check_page("trouble_bad_form", 400, |texts| {
        trouble_page(texts, Trouble::BadForm, reference)
    });
    check_page("trouble_too_many", 429, |texts| {
        trouble_page(texts, Trouble::TooManyRequests, reference)
    });
    check_page("trouble_temporary", 503, |texts| {
        trouble_page(texts, Trouble::Temporary, reference)
    });
}

#[test]
fn security_headers_are_reviewed_too() {
    let mut lines = String::new();
    for (name, value) in security_headers() {
        assert_eq!(name, name.to_lowercase());
        lines.push_str(&format!("{name}: {value}\n"));
    }
    check("headers.txt", &lines);
}

#[test]
fn the_policy_names_the_style_sheet_of_the_page() {
    let page = invalid_link_page(&ENGLISH).html;
    let style = page.split_once("<style>").expect("a style sheet").1;
    let style = style.split_once("</style>").expect("it ends").0;
    let hash = data_encoding::BASE64.encode(&sha2::Sha256::digest(style));
    let policy = security_headers()[1].1;
    assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
}

#[test]
fn asking_messages() {
    let verified = RequestView {
        requester_is_verified: true,
        ..request()
    };
    check_message("ask_verified", |texts| {
        ask(texts, &verified, &alice(), LINK, now())
    });
    check_message("ask", |texts| {
        ask(texts, &half_approved(), &alice(), LINK, now())
    });
    check_message("ask_as_soon_as_approved", |texts| {
        ask(texts, &as_soon_as_approved(), &alice(), LINK, now())
    });
    check_message("ask_until", |texts| {
        ask(texts, &until_fixed_end(), &alice(), LINK, now())
    });
    check_message("ask_narrowed", |texts| {
        ask(texts, &narrowed(), &alice(), LINK, now())
    });
    check_message("ask_late", |texts| {
        ask(texts, &late(), &alice(), LINK, now())
    });
    check_message("remind", |texts| {
        remind(texts, &half_approved(), &alice(), LINK, now())
    });
    let hostile = |texts: &Texts| ask(texts, &hostile(), &alice(), LINK, now());
    check_message("ask_hostile", hostile);
    assert_eq!(
        hostile(&ENGLISH).body.matches("://").count(),
        1,
        "only our own link is live"
    );
    assert!(
        hostile(&ENGLISH).body.lines().any(|line| line == LINK),
        "the link has a line of its own"
    );
}

/// Nearly the same request, for a membership.
fn membership(request: RequestView) -> RequestView {
    RequestView {
        role: "riko-dba".to_owned(),
        grant: Grant::Membership(Membership {
            role: GrantedRoleName::new("rds_superuser").expect("a role"),
            user: RoleName::new("riko").expect("a user"),
        }),
        ..request
    }
}

#[test]
fn pages_and_messages_about_a_membership() {
    let waiting = membership(half_approved());
    let approved = membership(approved());
    check_page("decision_membership", 200, |texts| {
        decision_page(texts, &waiting, &alice(), None, now())
    });
    let chiyo = person("chiyo", "Chiyo Example");
    let offer = EndOffer {
        person: &chiyo,
        is_open: true,
        draft: None,
    };
    check_page("settled_open_membership", 200, |texts| {
        settled_page(texts, &approved, &chiyo, Stage::Open, Some(&offer), now())
    });
    check_message("ask_membership", |texts| {
        ask(texts, &waiting, &alice(), LINK, now())
    });
    let later = at("2026-11-22T11:30:02Z");
    for (file, event) in [
        ("approved_membership", Announcement::Approved),
        ("opened_membership", Announcement::Opened),
        ("ends_soon_membership", Announcement::EndsSoon),
        ("closed_membership", closed(later, &[])),
        ("close_failing_membership", Announcement::CloseFailing),
    ] {
        check_message(file, |texts| announce(texts, &approved, &event, later));
    }
}

/// A request for a role of AWS.
fn for_a_role_of_aws(live_sessions: LiveSessions, request: RequestView) -> RequestView {
    let role_arn = "arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin".to_owned();
    let mut findings = vec![Finding::MayAssume {
        grantee: "arn:aws:iam::123456789012:user/latchkey/people/dave".to_owned(),
        role_arn: role_arn.clone(),
        policy_name: "latchkey-r-0123456789abcdef".to_owned(),
    }];
    if live_sessions == LiveSessions::RunOut {
        findings.insert(0, Finding::SessionsRunOut { seconds: 3_600 });
    }
    RequestView {
        role: "orders-admin".to_owned(),
        credential: access_core::RoleCredential::Existing,
        findings,
        grant: Grant::AssumeRole(AssumeRole {
            role_arn,
            max_session_seconds: 3_600,
            live_sessions,
        }),
        ..request
    }
}

#[test]
fn what_is_said_of_a_role_of_aws() {
    let (start, end) = (at("2026-11-22T10:00:03Z"), at("2026-11-22T11:30:00Z"));
    for (live_sessions, name) in [
        (LiveSessions::Denied, "assume_role"),
        (LiveSessions::RunOut, "assume_role_run_out"),
    ] {
        let asked = for_a_role_of_aws(live_sessions, request());
        check_page(&format!("decision_{name}"), 200, |texts| {
            decision_page(texts, &asked, &alice(), None, now())
        });
        check_message(&format!("ask_{name}"), |texts| {
            ask(texts, &asked, &alice(), LINK, now())
        });
        let approved = for_a_role_of_aws(live_sessions, approved());
        check_message(&format!("closed_{name}"), |texts| {
            announce(texts, &approved, &closed(end, &[]), end)
        });
    }
    let approved = for_a_role_of_aws(LiveSessions::Denied, approved());
    check_page("closing_assume_role", 200, |texts| {
        settled_page(texts, &approved, &alice(), Stage::Closing, None, end)
    });
    let assume_it = "aws sts assume-role --role-arn 'arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin' --role-session-name latchkey-r-0123456789abcdef --source-identity latchkey-r-0123456789abcdef".to_owned();
    let opened = Announcement::OpenedToAssume { assume_it };
    check_message("opened_assume_role", |texts| {
        announce(texts, &approved, &opened, start)
    });
    check_message("ends_soon_assume_role", |texts| {
        let ten_minutes_before = at("2026-11-22T11:20:00Z");
        announce(
            texts,
            &approved,
            &Announcement::EndsSoon,
            ten_minutes_before,
        )
    });
    check_message("close_failing_assume_role", |texts| {
        announce(texts, &approved, &Announcement::CloseFailing, end)
    });
}

fn closed(at: DateTime<Utc>, left_behind: &[&str]) -> Announcement {
    Announcement::Closed {
        at,
        left_behind: left_behind.iter().map(|it| (*it).to_owned()).collect(),
    }
}

#[test]
fn announcements() {
    let end_link = LINK.replace("/decide/", "/end/");
    check_message("accepted", |texts| {
        announce_with_link(texts, &request(), &Announcement::Accepted, &end_link, now())
    });
    check_message("approved_with_link", |texts| {
        announce_with_link(
            texts,
            &approved(),
            &Announcement::Approved,
            &end_link,
            now(),
        )
    });
    let start = at("2026-11-22T10:00:03Z");
    let end = at("2026-11-22T11:30:00Z");
    let later = at("2026-11-22T11:30:02Z");
    check_message("approved", |texts| {
        announce(texts, &approved(), &Announcement::Approved, now())
    });
    check_message("approved_already_handled", |texts| {
        announce_already_handled(texts, &approved(), &Announcement::Approved, now())
    });
    check_message("rejected_already_handled", |texts| {
        announce_already_handled(texts, &rejected(), &Announcement::Rejected, now())
    });
    let ten_minutes_before = at("2026-11-22T11:20:00Z");
    check_message("ends_soon", |texts| {
        let event = Announcement::EndsSoon;
        announce(texts, &approved(), &event, ten_minutes_before)
    });
    check_message("opened", |texts| {
        announce(texts, &approved(), &Announcement::Opened, start)
    });
    let per_window = RequestView {
        credential: access_core::RoleCredential::PerWindow,
        ..approved()
    };
    check_message("opened_per_window", |texts| {
        announce(texts, &per_window, &Announcement::Opened, start)
    });
    let read_it = "aws secretsmanager get-secret-value --region eu-west-1 --secret-id latchkey/prod/windows/r-x".to_owned();
    let with_password = Announcement::OpenedWithPassword { read_it };
    check_message("opened_with_password", |texts| {
        announce(texts, &per_window, &with_password, start)
    });
    check_message("opened_without_approval", |texts| {
        announce(texts, &without_approval(), &Announcement::Opened, start)
    });
    check_message("closed_without_approval", |texts| {
        announce(texts, &without_approval(), &closed(later, &[]), later)
    });
    check_message("closed", |texts| {
        announce(texts, &approved(), &closed(later, &[]), later)
    });
    check_message("opened_narrowed", |texts| {
        announce(texts, &narrowed(), &Announcement::Opened, start)
    });
    let left_behind = [
        "GRAVE + membership mallory in rds_superuser by master {\"admin_option\": true}",
        "GRAVE + role mallory (oid 24601) LOGIN",
        "not compared: billing: grant CONNECT on it to latchkey_opener and latchkey_closer",
        "- in orders: function settle(integer) owner app body 0cc175b9c0f1b6a831c399e269772661",
        "+ in orders: function settle(integer) owner app body 92eb5ffee6ae2fec3ad71c777531578f",
        "+ in orders: relation \"see https://evil.example/undo\nThere is nothing to do.\" of kind r owner app",
        "… and 17 more",
    ];
    let message = |texts: &Texts| announce(texts, &approved(), &closed(later, &left_behind), later);
    check_message("closed_left_behind", message);
    assert!(
        !message(&ENGLISH).body.contains("://"),
        "a hostile name is no link"
    );
    assert!(
        !message(&ENGLISH).body.contains("\nThere is nothing to do."),
        "and no sentence of ours"
    );
    let open_until = at("2026-11-22T13:00:00Z");
    let still_open = Announcement::EndedRoleStillOpen {
        open_until,
        left_behind: vec!["+ slot copy physical".to_owned()],
    };
    check_message("ended_role_still_open", |texts| {
        announce(texts, &approved(), &still_open, end)
    });
    check_message("cancelled", |texts| {
        announce(texts, &cancelled(), &Announcement::Cancelled, now())
    });
    let revoked = RequestView {
        ending: Some(ending()),
        ..approved()
    };
    let closed = Announcement::Closed {
        at: later,
        left_behind: Vec::new(),
    };
    check_message("closed_early", |texts| {
        announce(texts, &revoked, &closed, later)
    });
    check_message("rejected", |texts| {
        announce(texts, &rejected(), &Announcement::Rejected, now())
    });
    check_message("expired", |texts| {
        announce(
            texts,
            &half_approved(),
            &Announcement::Expired,
            at("2026-11-22T10:00:00Z"),
        )
    });
    // As release 0.1 recorded it: a sentence, and nothing that could be translated.
    let recorded =
        r#"{"name": "RoleNotRegistered", "path": "$.role", "message": "register the role again"}"#;
    let recorded: Fault = serde_json::from_str(recorded).expect("a recorded fault");
    let mut refused = access_text::faults(every_refusal());
    refused.push(recorded);
    let refused = Announcement::Refused { faults: refused };
    check_message("refused", |texts| {
        announce(texts, &request(), &refused, now())
    });
    let reviewed = Announcement::Reviewed {
        by: alice(),
        comment: "restarted the dispatcher, nothing else".to_owned(),
        at: later,
    };
    check_message("reviewed", |texts| {
        announce(texts, &approved(), &reviewed, later)
    });
    check_message("failed", |texts| {
        announce(texts, &approved(), &Announcement::Failed, later)
    });
    check_message("close_failing", |texts| {
        announce(texts, &approved(), &Announcement::CloseFailing, later)
    });
}

#[test]
fn refusals_are_recorded_as_data() {
    let mut recorded = String::new();
    for fault in access_text::faults(every_refusal()) {
        let json = serde_json::to_string(&fault).expect("it can be written");
        let read: Fault = serde_json::from_str(&json).expect("it can be read");
        assert_eq!(read, fault, "{json}");
        recorded.push_str(&json);
        recorded.push('\n');
    }
    check("refusals.jsonl", &recorded);
}

/// One of each kind, and more where a sentence depends on more.
fn every_refusal() -> Vec<Refusal> {
    let id = |id: &str| PersonId::new(id).expect("an id");
    let name = || "Alice Example".to_owned();
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let until = at("2026-11-22T11:00:00Z");
    let membership = Grant::Membership(Membership {
        role: GrantedRoleName::new("dba").expect("a role"),
        user: RoleName::new("riko").expect("a user"),
    });
    let mut refusals = vec![
        Refusal::TargetGone,
        Refusal::RoleGone,
        Refusal::RequesterGone,
        Refusal::TargetMoved,
        Refusal::RequesterLostPrincipal,
        Refusal::GrantChanged,
        Refusal::CredentialChanged,
        Refusal::NotAnApproverAnyMore { name: name() },
        Refusal::ApproverLostPrincipal { name: name() },
        Refusal::ApprovedByLink { name: name() },
        Refusal::ApprovedTooLate { name: name() },
        Refusal::MoreMustApprove {
            required: 2,
            required_then: 1,
        },
        Refusal::ApprovalsDoNotCount,
        Refusal::WindowTooShortByNow {
            shortest_seconds: 900,
            left_seconds: 330,
        },
        Refusal::BreakGlassWithdrawn,
        Refusal::ReviewMissing {
            unreviewed: RequestId::new("r-0123456789abcdef").expect("a request id"),
        },
        Refusal::NotApproved,
        Refusal::RequesterNotConfirmed,
        Refusal::RequesterNotShown { minutes: 20 },
        Refusal::StartedByService {
            requester: id("riko"),
        },
        Refusal::StartedByApprover {
            person: id("alice"),
        },
        Refusal::StartedBySomebodyElse {
            person: id("bob"),
            requester: id("riko"),
        },
        Refusal::StartedByNobody {
            caller: "arn:aws:iam::123456789012:root".to_owned(),
            requester: id("riko"),
        },
        Refusal::StartedByAmbiguous {
            caller: "arn:aws:iam::123456789012:user/ops".to_owned(),
            people: vec![id("alice"), id("bob")],
            requester: id("riko"),
        },
        Refusal::NotRegistered,
        Refusal::Dropped,
        Refusal::Renamed {
            now: "breakglass_old".to_owned(),
        },
        Refusal::RegisteredAnew,
        Refusal::NotManageable,
        Refusal::OtherKindRegistered,
        Refusal::OtherMembershipRegistered {
            role: "dba".to_owned(),
            user: "alice".to_owned(),
            asked_role: "dba".to_owned(),
            asked_user: "riko".to_owned(),
        },
        Refusal::CouldUndoItsWindow,
        Refusal::PreparedTransaction,
        Refusal::UserActedAsByOthers {
            roles: names(&["deploy", "master"]),
        },
        Refusal::RoleChanged {
            untold: vec![
                Finding::ActedAsBy {
                    roles: names(&["eve"]),
                },
                Finding::MemberOf {
                    roles: names(&["rds_superuser"]),
                },
                Finding::CreateRole,
                Finding::OpenedOutsideWindows,
                Finding::ReachesLatchkey,
            ],
        },
        Refusal::OpenOutsideWindows,
        Refusal::InstallationTooOld,
        Refusal::ReadersNotListed {
            readers: names(&["orders-eu", "orders-us"]),
        },
        Refusal::WindowOver,
        Refusal::ApproverUnreachable {
            id: id("bob"),
            name: "Bob Example".to_owned(),
            n_approvers: 3,
            n_reachable: 1,
            n_required: 2,
        },
    ];
    let holders = [Holder::Person(name()), Holder::ByHand, Holder::Unknown];
    refusals.extend(holders.map(|holder| Refusal::RoleInUse { holder, until }));
    for held_by in [vec![], names(&["granted by master"])] {
        refusals.push(Refusal::MemberAlready { held_by });
    }
    for longest_seconds in [None, Some(3600)] {
        refusals.push(Refusal::WindowTooLongForDatabase { longest_seconds });
    }
    for grant in [Grant::Login, membership] {
        refusals.push(Refusal::ClosedByHand { grant });
    }
    let grantee = || "user riko".to_owned();
    refusals.extend([
        Refusal::AwsRoleGone,
        Refusal::AwsRoleElsewhere,
        Refusal::AwsSessionsTooLong,
        Refusal::AwsTrustTooWide,
        Refusal::AwsRoleMadeAnew,
        Refusal::PolicyTakenByHand,
        Refusal::GranteeGone { grantee: grantee() },
        Refusal::GranteeNotPermitted { grantee: grantee() },
        Refusal::GranteeOutOfReach {
            account: "123456789012".to_owned(),
            grantee_account: "210987654321".to_owned(),
        },
        Refusal::PoliciesTooLong { holder: grantee() },
    ]);
    let distrusts = [
        Distrust::Unconfirmed,
        Distrust::NoFilter,
        Distrust::NotOnePerson,
        Distrust::UnknownPerson(id("zoe")),
        Distrust::AnotherMailbox(id("alice")),
        Distrust::Unauthenticated(id("alice")),
    ];
    refusals.extend(distrusts.map(|why| Refusal::SubscriptionNotTrusted {
        subscription: Distrusted {
            arn: "arn:aws:sns:eu-west-1:123456789012:latchkey:0f".to_owned(),
            endpoint: "alice@example.com".to_owned(),
            why,
        },
    }));
    refusals
}

#[test]
fn a_subject_fits_whatever_the_names() {
    let request = RequestView {
        target: format!("orders-prod-{}", "x".repeat(60)),
        ..request()
    };
    for event in [
        Announcement::Opened,
        Announcement::CloseFailing,
        Announcement::EndedRoleStillOpen {
            open_until: now(),
            left_behind: Vec::new(),
        },
    ] {
        let subject = announce(&ENGLISH, &request, &event, now()).subject;
        assert!(subject.len() < 100, "{subject}");
        assert!(subject.ends_with("(20261122-7k3m9q)"), "{subject}");
    }
}

#[test]
fn no_page_holds_a_link_or_runs_anything() {
    let pages = [
        decision_page(&ENGLISH, &half_approved(), &alice(), None, now()),
        decided_page(&ENGLISH, &approved(), &alice(), now()),
        invalid_link_page(&ENGLISH),
    ];
    for page in pages {
        for forbidden in [
            "://",
            "src=",
            "<script",
            " onclick=",
            " style=",
            " action=",
            "http-equiv",
            "/decide/",
        ] {
            assert!(!page.html.contains(forbidden), "{forbidden}");
        }
    }
}
