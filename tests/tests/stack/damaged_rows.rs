//! What is wrong with one window keeps nobody from looking after the others.

use serde_json::{Value, json};
use xtask::postgres::LATCHKEY_DATABASE;

use super::attacks::{delete_item, put_item};
use super::fixture::{can_log_in, new_role, on_stack};

#[test]
fn a_request_that_cannot_be_read_hides_no_access_from_reconcile() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "mode": "enforce" })).await;
        let damaged = "r-0000000000000bad";
        let row = |pk: &str, sk: &str, more: Value| {
            let mut item = json!({ "pk": { "S": pk }, "sk": { "S": sk }, "version": { "N": "1" } });
            for (name, value) in more.as_object().unwrap() {
                item[name] = value.clone();
            }
            item
        };
        let request = format!("request#{damaged}");
        let unreadable = json!({ "document": { "S": "{" }, "status": { "S": "open" } });
        put_item(stack, row(&request, "request", unreadable)).await;
        let window = json!({ "document": { "S": "{" }, "kind": { "S": "window" } });
        put_item(stack, row("windows#nowhere#nobody", damaged, window)).await;
        let superuser = &stack.postgres().accounts().superuser;
        let session = stack.postgres().log_in(superuser, LATCHKEY_DATABASE);
        let by_hand = format!("ALTER ROLE {role} LOGIN");
        session
            .await
            .unwrap()
            .batch_execute(&by_hand)
            .await
            .unwrap();
        assert!(can_log_in(stack, &role).await);

        let round = stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        assert_eq!(round["n_not_asked"], 1, "{round}");
        assert!(!can_log_in(stack, &role).await, "{round}");

        delete_item(stack, &request, "request").await;
        delete_item(stack, "windows#nowhere#nobody", damaged).await;
        let round = stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        assert_eq!(round["n_not_asked"], 0, "{round}");
    });
}
