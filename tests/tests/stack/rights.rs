//! Least privilege, as the local AWS enforces it.

use serde_json::json;
use xtask::callback;
use xtask::ministack::Keys;
use xtask::process;

use super::fixture::{SOON, ask, on_stack, outcome};

/// Whether the AWS command line is allowed to make this call as `keys`.
pub(super) async fn is_allowed(
    stack: &xtask::stack::Stack,
    keys: &Keys,
    arguments: &[&str],
) -> bool {
    let mut command = stack.aws().command("aws", keys);
    command
        .args(["--endpoint-url", &stack.aws().endpoint()])
        .args(arguments);
    let log = stack.folder().join("log").join("rights.log");
    process::capture("aws", &log, command).await.is_ok()
}

#[test]
fn a_requester_can_file_and_follow_a_request_and_nothing_else() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        let requester = stack.requester_keys();
        let arn = asked.execution.arn.as_str();
        assert!(
            is_allowed(
                stack,
                requester,
                &[
                    "stepfunctions",
                    "describe-execution",
                    "--execution-arn",
                    arn
                ]
            )
            .await
        );

        let table = stack.output("TableName").unwrap();
        let prefix = stack.output("CataloguePrefix").unwrap();
        let refused: [&[&str]; 6] = [
            &[
                "stepfunctions",
                "get-execution-history",
                "--execution-arn",
                arn,
            ],
            &["stepfunctions", "stop-execution", "--execution-arn", arn],
            &[
                "stepfunctions",
                "send-task-success",
                "--task-token",
                "x",
                "--task-output",
                "{}",
            ],
            &["dynamodb", "scan", "--table-name", table],
            &["ssm", "get-parameters-by-path", "--path", prefix],
            &[
                "secretsmanager",
                "get-secret-value",
                "--secret-id",
                "latchkey/opener/local",
            ],
        ];
        for call in refused {
            assert!(
                !is_allowed(stack, requester, call).await,
                "allowed: {call:?}"
            );
        }
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn a_functions_answer_to_a_damaged_payload_has_our_name() {
    on_stack(async |stack| {
        for function in [
            "ComputeWaitFunction",
            "NotifyFunction",
            "ApprovalFunction",
            "EnableLoginFunction",
            "DisableLoginFunction",
        ] {
            let answer = stack
                .invoke(function, &json!({ "version": 1, "surprise": true }))
                .await
                .unwrap();
            assert_eq!(
                answer["errorType"], "InvalidPayload",
                "{function}: {answer}"
            );
        }
    });
}
