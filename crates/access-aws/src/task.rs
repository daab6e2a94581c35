//! Answers the waiting task of the state machine.

use access_contract::TaskToken;
use access_core::RequestId;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::operation::send_task_success::SendTaskSuccessError;

use crate::Error;
use crate::error::chain;

/// Wakes the execution that waits for the decision on a request. What it is told is not believed
/// there, so the answer says only that there is something to read. A task that has been answered or
/// has timed out needs no answer any more.
///
/// # Errors
/// [`Error::Callback`].
pub async fn wake(client: &Client, request_id: &RequestId, token: &TaskToken) -> Result<(), Error> {
    let output =
        serde_json::json!({"version": access_contract::PAYLOAD_VERSION, "request_id": request_id});
    let answer = client
        .send_task_success()
        .task_token(token.expose())
        .output(output.to_string())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(SdkError::ServiceError(error))
            if matches!(
                error.err(),
                SendTaskSuccessError::TaskTimedOut(_) | SendTaskSuccessError::TaskDoesNotExist(_)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(Error::Callback(chain(error))),
    }
}
