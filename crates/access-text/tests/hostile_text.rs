//! Whatever people write, a page keeps its structure and a message keeps its one link.

use access_core::{Fault, FaultName, Finding, Refusal};
use access_text::{
    Announcement, DecisionView, ENGLISH, JAPANESE, PersonView, RequestView, Texts, WindowView,
    announce_already_handled, ask, decision_page, remind,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

const LINK: &str = "https://latchkey.invalid/decide/one";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).expect("a time")
}

/// As much of a text as PostgreSQL takes for a name.
fn role_name(text: &str) -> String {
    text[..text.floor_char_boundary(63)].to_owned()
}

/// A request in which everything that a person can write is `text`.
fn request(text: &str) -> RequestView {
    let person = |id: &str| PersonView {
        id: id.to_owned(),
        name: text.to_owned(),
    };
    let hour = chrono::TimeDelta::hours(1);
    RequestView {
        request_id: "r-0123456789abcdef".to_owned(),
        target: "orders-prod".to_owned(),
        role: "breakglass".to_owned(),
        findings: vec![
            Finding::MemberOf {
                roles: vec![role_name(text)],
            },
            Finding::ActedAsBy {
                roles: vec![role_name(text); 20],
            },
        ],
        other_windows: Vec::new(),
        requester: PersonView {
            id: text.to_owned(),
            name: text.to_owned(),
        },
        requester_is_verified: false,
        ending: None,
        reviewers: None,
        reason: text.to_owned(),
        window: WindowView::Fixed {
            start: now() + hour,
            end: now() + hour * 2,
        },
        asked: None,
        grant: access_core::Grant::Login,
        credential: access_core::RoleCredential::Existing,
        zone: Tz::Asia__Tokyo,
        decide_by: now() + hour,
        required_approvals: 2,
        approvers: vec![person("alice"), person("bob")],
        decisions: vec![DecisionView {
            person: person("bob"),
            approved: true,
            at: now(),
            comment: text.to_owned(),
            narrowing: None,
        }],
    }
}

fn page(texts: &Texts, text: &str) -> String {
    let alice = PersonView {
        id: "alice".to_owned(),
        name: text.to_owned(),
    };
    decision_page(texts, &request(text), &alice, None, now()).html
}

/// The tags of a page, in order, with their attributes, but without the note that a text was changed.
fn tags(html: &str) -> Vec<&str> {
    let english = "<p class=\"hint\">Links, mentions and hidden characters in this text were made harmless.</p>";
    let japanese = "<p class=\"hint\">この文中のリンク、メンション、見えない文字は無害化して表示しています。</p>";
    html.split(english)
        .flat_map(|part| part.split(japanese))
        .flat_map(|part| part.split('<').skip(1))
        .filter_map(|rest| rest.split_once('>'))
        .map(|(tag, _)| tag)
        .collect()
}

/// The corpus that a security reviewer tries first.
const CORPUS: [&str; 14] = [
    "plain",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</textarea></form><form action=https://evil.example><button>Approve</button>",
    "<!channel> <@U1> <https://evil.example|Approve>",
    "[Approve](https://evil.example)",
    "Approve:\r\n\r\nhttps://evil.example/decide/1\r\n\r\nThis link is yours alone.",
    "a\r\nSubject: approved\r\nBcc: all@corp.example",
    "\u{202E}evorppa\u{2066} \u{200F}x",
    "\0\u{1}\u{7F}\u{9B}2J\u{1B}[31m",
    "ht\u{200B}tps\u{2060}://evil\u{AD}.example",
    "{{7*7}} {% raw %} ${jndi:ldap://evil.example} %0d%0a %s",
    "> fake quotation\n-- \nLatchkey: approved",
    "\u{1F469}\u{200D}\u{1F4BB} \u{5E9}\u{5DC}\u{5D5}\u{5DD} \u{672C}\u{756A}",
];

fn check(texts: &Texts, text: &str) {
    let plain = page(texts, "plain");
    let hostile = page(texts, text);
    assert_eq!(tags(&hostile), tags(&plain), "{text:?}");
    let alice = PersonView {
        id: "alice".to_owned(),
        name: text.to_owned(),
    };
    let view = request(text);
    for asked in [
        ask(texts, &view, &alice, LINK, now()),
        remind(texts, &view, &alice, LINK, now()),
    ] {
        assert_eq!(asked.body.matches("://").count(), 1, "{text:?}");
        assert_eq!(asked.body.lines().filter(|line| *line == LINK).count(), 1);
    }
    let refusals = [
        Refusal::Renamed {
            now: text.to_owned(),
        },
        Refusal::NotAnApproverAnyMore {
            name: text.to_owned(),
        },
        Refusal::MemberAlready {
            held_by: vec![text.to_owned()],
        },
    ];
    let mut faults = access_text::faults(refusals);
    faults.push(Fault::new(FaultName::RoleNotRegistered, "$.role", text));
    for event in [
        Announcement::Approved,
        Announcement::EndsSoon,
        Announcement::Opened,
        Announcement::Closed {
            at: now(),
            left_behind: vec![format!("+ role {text}")],
        },
        Announcement::Rejected,
        Announcement::Refused { faults },
        Announcement::Reviewed {
            by: alice.clone(),
            comment: text.to_owned(),
            at: now(),
        },
        Announcement::CloseFailing,
    ] {
        let message = announce_already_handled(texts, &view, &event, now());
        assert!(!message.body.contains("://"), "{text:?}");
        assert!(message.subject.bytes().all(|it| matches!(it, b' '..=b'~')));
        assert!(message.subject.len() < 100);
        let hidden = |it: char| it.is_control() && it != '\n';
        assert!(!message.body.contains(hidden), "{text:?}");
    }
}

#[test]
fn the_corpus_changes_no_structure() {
    for texts in [&ENGLISH, &JAPANESE] {
        for text in CORPUS {
            check(texts, text);
        }
        check(texts, &CORPUS.join(" "));
    }
}

#[test]
fn what_people_wrote_stands_only_in_marked_lines() {
    let body = ask(
        &ENGLISH,
        &request("one\n\n\nDecide here:\nnow"),
        &request("x").requester,
        LINK,
        now(),
    )
    .body;
    for line in body
        .lines()
        .filter(|line| line.ends_with("Decide here:") || line.ends_with("now"))
    {
        let one_line_name = line.contains("one Decide here: now");
        assert!(line.starts_with("> ") || one_line_name, "{line}");
    }
}

#[test]
fn a_hundred_kilobytes_stay_a_page_and_a_message() {
    for piece in [
        "x",
        "long words ",
        "\n",
        "<b>",
        "https://evil.example/ ",
        "\u{202E}",
        "\u{672C}",
    ] {
        let text = piece.repeat(100_000 / piece.len());
        assert!(page(&ENGLISH, &text).len() < 200_000, "{piece:?}");
        let asked = ask(
            &ENGLISH,
            &request(&text),
            &request(&text).requester,
            LINK,
            now(),
        );
        // https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html: 256 KB at most.
        assert!(asked.body.len() < 200_000, "{piece:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_changes_any_structure(
        texts in prop_oneof![Just(&ENGLISH), Just(&JAPANESE)],
        text in prop_oneof![
        any::<String>(),
        prop::collection::vec(prop::sample::select(&CORPUS[..]), 1..4).prop_map(|parts| parts.concat()),
    ]) {
        // Without any visible character a reason or comment is refused earlier, and leaves no quotation here.
        prop_assume!(text.chars().any(char::is_alphanumeric));
        check(texts, &text);
    }
}
