//! Every page and every message exists in every language, and the Japanese ones hold no English sentence.

use access_core::grant::Membership;
use access_core::overlap::{Holder, InUse};
use access_core::{
    AssumeRole, CannotApprove, FaultName, Finding, Grant, GrantedRoleName, Language, LiveSessions,
    Narrowing, Refusal, RoleName,
};
use access_text::{
    Announcement, CannotDecide, DecisionView, Draft, EndDraft, EndOffer, EndProblem, EndTyped,
    FIELD_END, FormProblem, Message, OtherWindow, Page, PersonView, RequestView, Stage, Texts,
    Trouble, Typed, WindowView, already_decided_page, announce, announce_with_link, ask,
    cannot_decide_page, decided_page, decision_page, expired_page, invalid_link_page, settled_page,
    standing_page, trouble_page,
};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

const LINK: &str = "https://latchkey.invalid/decide/1";

/// Latin words that are no English: names, units of the data below, and marks that tools search for.
const NO_ENGLISH: [&str; 17] = [
    "Latchkey",
    "UTC",
    "PostgreSQL",
    "AWS",
    "IAM",
    "CloudTrail",
    "Asia",
    "Tokyo",
    "T",
    "GRAVE",
    "U",
    "SET",
    "ROLE",
    "kanri",
    "orders",
    "r",
    "hanako",
];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_020, 0).expect("a time")
}

fn after(minutes: i64) -> DateTime<Utc> {
    now() + TimeDelta::minutes(minutes)
}

fn person(id: &str, name: &str) -> PersonView {
    PersonView {
        id: id.to_owned(),
        name: name.to_owned(),
    }
}

fn taro() -> PersonView {
    person("taro", "佐藤太郎")
}

fn vote(person: PersonView, approved: bool) -> DecisionView {
    DecisionView {
        person,
        approved,
        at: now(),
        comment: "確認しました。".to_owned(),
        narrowing: approved
            .then(|| Narrowing::new(Some(after(70)), Some(after(80))))
            .flatten(),
    }
}

fn findings() -> Vec<Finding> {
    let roles = vec!["kanri".to_owned(); 10];
    vec![
        Finding::MemberOf {
            roles: roles.clone(),
        },
        Finding::ActedAsBy { roles },
        Finding::CreateRole,
        Finding::CreateDatabase,
        Finding::Replication,
        Finding::BypassRowSecurity,
        Finding::EndsSessions,
        Finding::SessionsRunOut { seconds: 3_600 },
        Finding::MayAssume {
            grantee: "hanako".to_owned(),
            role_arn: "kanri".to_owned(),
            policy_name: "kanri".to_owned(),
        },
        Finding::OpenedOutsideWindows,
        Finding::ReachesLatchkey,
    ]
}

fn others() -> Vec<OtherWindow> {
    [(-10, 20), (30, 40)]
        .map(|(start, end)| OtherWindow {
            request_id: "r-0000".to_owned(),
            start: after(start),
            end: after(end),
            of_requester: true,
        })
        .into()
}

fn grants() -> [Grant; 4] {
    let assume_role = |live_sessions| {
        Grant::AssumeRole(AssumeRole {
            role_arn: "kanri".to_owned(),
            max_session_seconds: 3_600,
            live_sessions,
        })
    };
    [
        Grant::Login,
        Grant::Membership(Membership {
            role: GrantedRoleName::new("kanri").expect("a role"),
            user: RoleName::new("hanako").expect("a user"),
        }),
        assume_role(LiveSessions::Denied),
        assume_role(LiveSessions::RunOut),
    ]
}

/// Every state that a request of every kind can be in, with data that is Japanese.
fn requests() -> Vec<RequestView> {
    let of_kind = |grant: Grant| {
        requests_for_logins()
            .into_iter()
            .map(move |request| RequestView {
                grant: grant.clone(),
                ..request
            })
    };
    grants().into_iter().flat_map(of_kind).collect()
}

fn requests_for_logins() -> Vec<RequestView> {
    let fixed = WindowView::Fixed {
        start: after(60),
        end: after(120),
    };
    let windows = [
        fixed.clone(),
        WindowView::Fixed {
            start: after(-10),
            end: after(50),
        },
        WindowView::FromApprovalUntil { end: after(120) },
        WindowView::FromApprovalFor {
            duration: TimeDelta::minutes(45),
            latest_end: after(150),
            not_before: None,
        },
        WindowView::FromApprovalFor {
            duration: TimeDelta::minutes(45),
            latest_end: after(40),
            not_before: Some(after(5)),
        },
    ];
    let votes = [
        vec![],
        vec![vote(taro(), true)],
        vec![vote(taro(), true), vote(person("hanako", "鈴木花子"), true)],
        vec![vote(taro(), false)],
    ];
    let mut requests = Vec::new();
    for window in windows {
        for decisions in &votes {
            requests.push(RequestView {
                request_id: "r-0123456789".to_owned(),
                target: "orders".to_owned(),
                role: "kanri".to_owned(),
                findings: findings(),
                other_windows: others(),
                requester_is_verified: false,
                ending: None,
                reviewers: None,
                requester: person("hanako", "鈴木花子"),
                reason: "夜間バッチの障害対応です。".to_owned(),
                grant: Grant::Login,
                credential: access_core::RoleCredential::Existing,
                window: window.clone(),
                asked: (!decisions.is_empty()).then(|| fixed.clone()),
                zone: Tz::Asia__Tokyo,
                decide_by: after(30),
                required_approvals: 2,
                approvers: vec![taro(), person("jiro", "高橋次郎")],
                decisions: decisions.clone(),
            });
        }
    }
    requests
}

fn problems() -> Vec<FormProblem> {
    let (left, least) = (TimeDelta::seconds(30), TimeDelta::minutes(1));
    let mut problems = vec![
        FormProblem::NoDecision,
        FormProblem::RoleDoesNotMatch,
        FormProblem::CommentTooLong,
        FormProblem::CommentMissing,
    ];
    problems.extend(
        [
            FaultName::InvalidTime,
            FaultName::AmbiguousLocalTime,
            FaultName::NonexistentLocalTime,
        ]
        .map(|fault| FormProblem::NotATime {
            field: FIELD_END,
            fault,
        }),
    );
    problems.extend(
        [
            CannotApprove::StartTooEarly {
                earliest: after(60),
            },
            CannotApprove::EndTooLate { latest: after(120) },
            CannotApprove::TooShort { left, least },
            CannotApprove::TooShortTogether { left, least },
            in_use(Holder::Person("佐藤次郎".to_owned())),
            in_use(Holder::ByHand),
            in_use(Holder::Unknown),
        ]
        .map(FormProblem::CannotApprove),
    );
    problems
}

fn in_use(holder: Holder) -> CannotApprove {
    CannotApprove::RoleInUse(InUse {
        holder,
        until: after(90),
    })
}

fn pages(texts: &Texts) -> Vec<Page> {
    let mut pages = vec![invalid_link_page(texts)];
    for trouble in [
        Trouble::BadForm,
        Trouble::TooManyRequests,
        Trouble::Temporary,
    ] {
        pages.push(trouble_page(texts, trouble, "0123"));
    }
    for request in requests() {
        let (request, taro, now) = (&request, &taro(), now());
        pages.push(decision_page(texts, request, taro, None, now));
        for problem in problems() {
            let draft = Draft::new(problem, Typed::default());
            pages.push(decision_page(texts, request, taro, Some(&draft), now));
        }
        pages.push(decided_page(texts, request, taro, now));
        pages.push(already_decided_page(texts, request, taro, None, now));
        for is_open in [false, true] {
            for problem in [
                EndProblem::NotPressed,
                EndProblem::ReasonMissing,
                EndProblem::ReasonTooLong,
                EndProblem::RoleDoesNotMatch,
            ] {
                let draft = EndDraft::new(problem, EndTyped::default());
                let offer = EndOffer {
                    person: taro,
                    is_open,
                    draft: Some(&draft),
                };
                let stage = if is_open { Stage::Open } else { Stage::Waiting };
                pages.push(standing_page(texts, request, stage, Some(&offer), now));
            }
        }
        for stage in [
            Stage::Waiting,
            Stage::Closing,
            Stage::Cancelled,
            Stage::Approved,
            Stage::Open,
            Stage::EndedRoleStillOpen,
            Stage::Closed,
            Stage::Rejected,
            Stage::Refused,
        ] {
            pages.push(settled_page(texts, request, taro, stage, None, now));
            pages.push(standing_page(texts, request, stage, None, now));
        }
        pages.push(expired_page(texts, request, after(31)));
        pages.push(expired_page(texts, request, after(200)));
        for why in [
            CannotDecide::YouAreTheRequester,
            CannotDecide::NotAnApprover,
        ] {
            pages.push(cannot_decide_page(texts, request, why, now));
        }
    }
    pages
}

fn messages(texts: &Texts) -> Vec<Message> {
    let left_behind = vec!["GRAVE + kanri".to_owned()];
    let mut messages = Vec::new();
    for request in requests() {
        messages.push(ask(texts, &request, &taro(), LINK, now()));
        let accepted = Announcement::Accepted;
        messages.push(announce_with_link(texts, &request, &accepted, LINK, now()));
        for event in [
            Announcement::Opened,
            Announcement::Closed {
                at: after(120),
                left_behind: Vec::new(),
            },
            Announcement::Closed {
                at: after(120),
                left_behind: left_behind.clone(),
            },
            Announcement::EndedRoleStillOpen {
                open_until: after(180),
                left_behind: left_behind.clone(),
            },
            Announcement::Rejected,
            Announcement::Expired,
            Announcement::Refused {
                faults: access_text::faults([
                    Refusal::ApproverLostPrincipal {
                        name: "佐藤太郎".to_owned(),
                    },
                    Refusal::RoleChanged { untold: findings() },
                    Refusal::WindowOver,
                    Refusal::WindowTooShortByNow {
                        shortest_seconds: 90_061,
                        left_seconds: 0,
                    },
                    Refusal::RoleInUse {
                        holder: Holder::Person("佐藤太郎".to_owned()),
                        until: now(),
                    },
                ]),
            },
            Announcement::Reviewed {
                by: taro(),
                comment: "確認しました。".to_owned(),
                at: now(),
            },
            Announcement::Failed,
            Announcement::CloseFailing,
        ] {
            messages.push(announce(texts, &request, &event, now()));
        }
    }
    messages
}

/// What a reader sees of a page: no style sheet and no tags.
fn seen(html: &str) -> String {
    let mut seen = String::new();
    for part in html.split("<style>") {
        let part = part.split_once("</style>").map_or(part, |(_, rest)| rest);
        for piece in part.split('<') {
            seen.push_str(piece.split_once('>').map_or(piece, |(_, text)| text));
            seen.push(' ');
        }
    }
    seen.replace("&#39;", "'").replace("&#34;", "\"")
}

/// The first Latin word in a text that is none of [`NO_ENGLISH`].
fn english_word(text: &str) -> Option<&str> {
    text.split(|character: char| !character.is_ascii_alphabetic())
        .find(|word| !word.is_empty() && !NO_ENGLISH.contains(word))
}

#[test]
fn every_page_says_its_language() {
    for language in Language::ALL {
        let tag = format!("<html lang=\"{}\">", language.tag());
        let pages = pages(Texts::of(language));
        assert!(pages.len() > 400, "{}", pages.len());
        for page in pages {
            assert!(page.html.contains(&tag), "{}", page.html);
        }
    }
}

#[test]
fn no_english_is_left_in_a_japanese_page() {
    for page in pages(Texts::of(Language::Japanese)) {
        let seen = seen(&page.html);
        assert_eq!(english_word(&seen), None, "{seen}");
        assert!(seen.contains('。'), "{seen}");
    }
}

#[test]
fn no_english_is_left_in_a_japanese_message() {
    for message in messages(Texts::of(Language::Japanese)) {
        // The commands for the administrator are SQL, and the link is a link.
        let prose: Vec<&str> = message
            .body
            .lines()
            .filter(|line| !line.starts_with("    ") && *line != LINK)
            .collect();
        let prose = prose.join("\n");
        assert_eq!(english_word(&prose), None, "{prose}");
    }
}

#[test]
fn the_same_pages_have_the_same_status_and_form_in_every_language() {
    let (english, japanese) = (
        pages(Texts::of(Language::English)),
        pages(Texts::of(Language::Japanese)),
    );
    assert_eq!(english.len(), japanese.len());
    let names = |html: &str| -> Vec<String> {
        html.split(" name=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect()
    };
    for (english, japanese) in english.iter().zip(&japanese) {
        assert_eq!(english.status, japanese.status);
        assert_eq!(names(&english.html), names(&japanese.html));
    }
}

#[test]
fn the_english_check_finds_english() {
    assert_eq!(
        english_word(&seen("<p class=\"hint\">承認 Approve</p>")),
        Some("Approve")
    );
    assert!(
        pages(Texts::of(Language::English))
            .iter()
            .all(|page| english_word(&seen(&page.html)).is_some())
    );
}
