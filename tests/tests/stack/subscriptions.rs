//! Who would get a link is looked at before any link is sent.

use aws_sdk_sns::Client;
use serde_json::{Value, json};
use xtask::stack::{APPROVERS, REQUESTER, Stack};

use super::fixture::{SOON, alone_on_stack, ask_for, file, new_role, on_stack, outcome};

/// A person of the catalogue whom nobody has subscribed.
async fn save_person(stack: &Stack, id: &str) {
    let document = json!({ "id": id, "name": id, "mailbox": format!("{id}@example.com") });
    stack
        .put_catalogue(&format!("people/{id}"), &document)
        .await
        .unwrap();
}

/// The texts of the messages that `person` got about `role`.
async fn told(stack: &Stack, person: &str, role: &str) -> Vec<String> {
    let inbox = stack.inbox(person).unwrap();
    let messages = inbox.take_all(|message| message.is_about(role)).await;
    messages.unwrap().into_iter().map(|it| it.text).collect()
}

/// Files a request, and expects that it is refused for these reasons and that only the requester hears of it.
async fn refused_for(stack: &Stack, role: &str, faults: &[&str], named: &str) {
    let execution = file(stack, role, json!({})).await;
    let ended = outcome(stack, &execution).await;
    assert_eq!(ended.outcome(), "refused", "{named}: {}", ended.output);
    assert_eq!(ended.fault_names(), faults, "{named}: {}", ended.output);
    assert!(ended.output.to_string().contains(named), "{}", ended.output);
    let requester = told(stack, REQUESTER, role).await;
    assert_eq!(requester.len(), 1, "{named}: {requester:?}");
    assert!(requester[0].contains("was refused"), "{}", requester[0]);
    for approver in APPROVERS {
        assert_eq!(told(stack, approver, role).await, [""; 0], "{named}");
    }
    let states = stack.states_entered(&execution).await.unwrap();
    assert!(!states.iter().any(|(name, _)| name == "Await Approval"));
}

#[test]
fn too_few_reachable_approvers_refuse_the_request_at_once() {
    on_stack(async |stack| {
        save_person(stack, "carol").await;
        let document = json!({ "approvers": ["alice", "carol"], "required_approvals": 2 });
        let role = new_role(stack, document).await;
        refused_for(stack, &role, &["ApproverUnreachable"], "subscribe carol").await;
    });
}

#[test]
fn enough_reachable_approvers_are_asked() {
    on_stack(async |stack| {
        save_person(stack, "erin").await;
        let role = new_role(stack, json!({ "approvers": ["erin", "alice"] })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let states = stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await;
        states.unwrap();
        xtask::callback::reject(&asked.link, "enough seen")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn nobody_but_the_deployment_subscribes() {
    on_stack(async |stack| {
        let requester = stack.aws().sdk_config(stack.requester_keys()).await;
        for config in [stack.root_config(), &requester] {
            let refused = subscribe(
                &Client::new(config),
                stack,
                "email",
                "mallory@example.com",
                None,
            )
            .await
            .unwrap_err();
            assert!(refused.contains("AuthorizationError"), "{refused}");
        }
        let report = stack.people().unwrap().check().await.unwrap();
        for person in APPROVERS.into_iter().chain([REQUESTER]) {
            let reached = report
                .reach
                .reachable
                .iter()
                .any(|it| it.as_str() == person);
            assert!(reached, "{report:?}");
        }
        assert_eq!(report.reach.distrusted, []);
    });
}

/// Subscribes anything as `client`; gives the ARN, or the words in its place.
async fn subscribe(
    client: &Client,
    stack: &Stack,
    protocol: &str,
    endpoint: &str,
    filter: Option<Value>,
) -> Result<String, String> {
    let mut call = client
        .subscribe()
        .topic_arn(stack.output("TopicArn").unwrap())
        .protocol(protocol)
        .endpoint(endpoint);
    if let Some(filter) = filter {
        call = call.attributes("FilterPolicy", filter.to_string());
    }
    match call.send().await {
        Ok(answer) => Ok(answer.subscription_arn().unwrap_or_default().to_owned()),
        Err(error) => Err(format!("{error:?}")),
    }
}

#[test]
fn a_subscription_that_could_see_others_links_stops_them_all() {
    alone_on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let client = Client::new(stack.people().unwrap().sdk_config());
        let eavesdropper = stack.make_mailbox("eavesdropper").await.unwrap();
        let queue = "arn:aws:sqs:us-east-1:123456789012:mailbox-eavesdropper";
        let only = |person: &str| Some(json!({ "recipient": [person] }));
        for filter in [
            None,
            Some(json!({ "recipient": ["alice", "bob"] })),
            Some(json!({ "recipient": [{ "prefix": "a" }] })),
            Some(json!({ "recipient": [{ "exists": true }] })),
            only("mallory"),
            only("alice"),
        ] {
            subscribe(&client, stack, "sqs", queue, filter.clone())
                .await
                .unwrap();
            refused_for(
                stack,
                &role,
                &["SubscriptionNotTrusted"],
                "mailbox-eavesdropper",
            )
            .await;
            let report = stack.people().unwrap().check().await.unwrap();
            assert_eq!(report.reach.distrusted.len(), 1, "{filter:?}: {report:?}");
            unsubscribe(stack, queue).await;
        }
        let seen = eavesdropper.take_all(|_| true).await.unwrap();
        assert!(
            seen.iter().all(|message| message.decision_link().is_none()),
            "{seen:?}"
        );

        // Not confirmed; then confirmed by following the link, as a mail scanner does.
        save_person(stack, "dora").await;
        let dora = stack.make_mailbox("dora").await.unwrap();
        let pending = subscribe(&client, stack, "email", "dora@example.com", only("dora")).await;
        assert_eq!(pending.unwrap(), "pending confirmation");
        refused_for(
            stack,
            &role,
            &["SubscriptionNotTrusted"],
            "dora@example.com",
        )
        .await;
        let mail = dora
            .next(SOON, |message| message.text.contains("Token="))
            .await
            .unwrap();
        let (_, token) = mail.text.split_once("Token=").unwrap();
        client
            .confirm_subscription()
            .topic_arn(stack.output("TopicArn").unwrap())
            .token(token.split('&').next().unwrap())
            .send()
            .await
            .unwrap();
        refused_for(
            stack,
            &role,
            &["SubscriptionNotTrusted"],
            "without a signature",
        )
        .await;
        unsubscribe(stack, "dora@example.com").await;

        // Once it is mended, people are asked again.
        let asked = ask_for(stack, &role, json!({})).await;
        xtask::callback::reject(&asked.link, "enough seen")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

/// Deletes every subscription of an endpoint, as the topic's owner may.
async fn unsubscribe(stack: &Stack, endpoint: &str) {
    let owner = Client::new(stack.root_config());
    let listed = owner
        .list_subscriptions_by_topic()
        .topic_arn(stack.output("TopicArn").unwrap())
        .send()
        .await
        .unwrap();
    for subscription in listed.subscriptions() {
        if subscription.endpoint() == Some(endpoint) {
            let arn = subscription.subscription_arn().unwrap();
            owner
                .unsubscribe()
                .subscription_arn(arn)
                .send()
                .await
                .unwrap();
        }
    }
}
