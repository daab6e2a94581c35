//! Tells apart who calls: the state machine, or through the HTTP API a browser or a signed call.

use access_aws::catalogue::Catalogue;
use access_aws::schedule::NoticeSchedules;
use access_aws::seal::SealingKey;
use access_contract::payload::{Answer, Approval};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use lambda_shell::http::HttpCall;
use lambda_shell::{Failure, Invocation};
use serde_json::Value;

use crate::deciding::Deciding;
use crate::{page, route};

pub(crate) struct Handler {
    pub(crate) link_key: SealingKey,
    pub(crate) catalogue: Catalogue,
    pub(crate) close_window_arn: String,
    pub(crate) notices: NoticeSchedules,
    pub(crate) notify_arn: String,
    pub(crate) deciding: Deciding,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        if invocation.payload.get("requestContext").is_some() {
            if let Some(call) = HttpCall::read(invocation.payload.clone())
                && route::is_ours(&call)
            {
                return Ok(route::answer(self, &call, &invocation.invocation_id).await);
            }
            let request: ApiGatewayV2httpRequest = lambda_shell::read(invocation.payload)?;
            return page::answer(self, &request, &invocation.invocation_id).await;
        }
        let outcome = match lambda_shell::read(invocation.payload)? {
            Approval::AwaitDecision {
                request_id,
                task_token,
                ..
            } => {
                self.deciding
                    .await_decision(&request_id, &task_token)
                    .await?
            }
            Approval::Settle(step) => self.deciding.settle(&step.request_id).await?,
        };
        lambda_shell::write(&Answer::from(outcome))
    }
}
