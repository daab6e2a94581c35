//! A person approves in Chromium, on the page of the deployed stack, and the login opens.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code, reason = "the tests of the stack use all of it")]
#[path = "stack/fixture.rs"]
mod fixture;

use fixture::{ask_for, new_role, on_stack, outcome, until_open};
use latchkey_tests::browser::{LOOKS, with_browser};
use serde_json::json;

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
