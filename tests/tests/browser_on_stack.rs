//! A person approves in Chromium, on the page of the deployed stack, and the login opens.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code, reason = "the tests of the stack use all of it")]
#[path = "stack/fixture.rs"]
mod fixture;

use chrono::{TimeDelta, Utc};
use fixture::{
    ask_for, link_to, new_role, on_stack, outcome, until_open, valid_until, was_ever_opened,
};
use latchkey_tests::browser::{LOOKS, with_browser};
use serde_json::json;
use xtask::stack::APPROVERS;

/// A language, and the headings that its pages have: recorded, approved, rejected, too late, already decided.
const LANGUAGES: [(&str, [&str; 5]); 2] = [
    (
        "en",
        [
            "Your approval is recorded",
            "Approved",
            "Rejected",
            "Too late: this request has expired",
            "Already decided",
        ],
    ),
    (
        "ja",
        [
            "承認を記録しました",
            "承認されました",
            "却下されました",
            "期限を過ぎています",
            "回答済みです",
        ],
    ),
];

#[test]
fn two_people_narrow_in_the_browser_in_both_languages() {
    on_stack(async |stack| {
        for (tag, [recorded, approved, _, _, already]) in LANGUAGES {
            let role = new_role(stack, json!({ "required_approvals": 2 })).await;
            let asked = ask_for(stack, &role, json!({ "duration": "PT30M" })).await;
            let of_bob = link_to(stack, APPROVERS[1], &role, &asked.execution).await;
            let (of_alice, typed) = (asked.link.clone(), role.clone());
            let end = Utc::now() + TimeDelta::seconds(60);
            // The catalogue's zone is Asia/Tokyo, nine hours ahead.
            let local = (end + TimeDelta::hours(9)).format("%Y-%m-%dT%H:%M:%S");
            let local = local.to_string();
            with_browser(|browser| async move {
                browser.speak(tag).await?;
                browser.open(&of_alice, LOOKS[0]).await?;
                browser.narrow("", &local).await?;
                browser.screenshot(&format!("{tag}-narrow")).await?;
                browser.approve(&typed, "short").await?;
                assert_eq!(browser.outcome().await?, recorded);
                browser.open(&of_alice, LOOKS[0]).await?;
                assert_eq!(browser.outcome().await?, already);
                browser
                    .screenshot(&format!("{tag}-already-decided"))
                    .await?;
                browser.open(&of_bob, LOOKS[0]).await?;
                browser.approve(&typed, "").await?;
                assert_eq!(browser.outcome().await?, approved);
                browser.screenshot(&format!("{tag}-approved")).await?;
                assert_eq!(browser.violations().await?, Vec::<String>::new());
                Ok(())
            })
            .await
            .unwrap();
            until_open(stack, &asked).await;
            let until = valid_until(stack, &role).await;
            assert_eq!(until.timestamp(), end.timestamp(), "{tag}");
            assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        }
    });
}

#[test]
fn people_reject_and_come_too_late_in_the_browser_in_both_languages() {
    on_stack(async |stack| {
        for (tag, [_, _, rejected, late, _]) in LANGUAGES {
            let role = new_role(stack, json!({})).await;
            let asked = ask_for(stack, &role, json!({})).await;
            let link = asked.link.clone();
            with_browser(|browser| async move {
                browser.speak(tag).await?;
                browser.open(&link, LOOKS[0]).await?;
                browser.reject("今日はだめです, not today").await?;
                assert_eq!(browser.outcome().await?, rejected);
                browser.screenshot(&format!("{tag}-rejected")).await?;
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");

            let role = new_role(stack, json!({ "approval_deadline": "PT20S" })).await;
            let asked = ask_for(stack, &role, json!({})).await;
            let (link, typed) = (asked.link.clone(), role.clone());
            let execution = &asked.execution;
            assert_eq!(outcome(stack, execution).await.outcome(), "expired");
            with_browser(|browser| async move {
                browser.speak(tag).await?;
                browser.open(&link, LOOKS[0]).await?;
                assert_eq!(browser.outcome().await?, late);
                browser.screenshot(&format!("{tag}-late")).await?;
                let form = fantoccini::Locator::Css("form");
                assert!(browser.client().find(form).await.is_err(), "{typed}");
                Ok(())
            })
            .await
            .unwrap();
            assert!(!was_ever_opened(stack, &asked).await, "{tag}");
        }
    });
}

#[test]
fn a_person_approves_in_the_browser_and_the_login_opens() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let reason = "repair <b>orders</b> & refunds; see https://example.com/approve?x=1";
        let asked = ask_for(stack, &role, json!({ "reason": reason })).await;
        let (link, typed) = (asked.link.clone(), role.clone());
        with_browser(|browser| async move {
            let faults = browser.inspect(&link, "deployed", &LOOKS).await?;
            assert!(faults.is_empty(), "{}", faults.join("\n"));
            browser.open(&link, LOOKS[0]).await?;
            browser
                .approve(&typed, "fine, but watch the replica")
                .await?;
            let heading = browser.outcome().await?;
            browser.screenshot("deployed-approved").await?;
            assert!(!heading.is_empty());
            Ok(())
        })
        .await
        .unwrap();
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}
