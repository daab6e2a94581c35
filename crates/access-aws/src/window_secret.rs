//! The secret in which a window's requester finds the password: made before the password is set, gone with the window.

use access_core::catalogue::HostPort;
use access_core::{Principal, RequestId, RoleName, handover};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretError;
use aws_sdk_secretsmanager::operation::delete_secret::DeleteSecretError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use serde_json::{Value, json};

use crate::Error;
use crate::error::chain;
use crate::secret::DatabasePassword;

/// The secrets of one deployment's windows: reads their names and deletes them.
pub struct WindowSecrets {
    client: Client,
    deployment: String,
}

/// What it takes to make them besides.
pub struct WindowSecretMaker {
    secrets: WindowSecrets,
    key_arn: String,
    own_role_arn: String,
}

impl WindowSecrets {
    /// The secrets of `deployment`.
    #[must_use]
    pub fn new(client: Client, deployment: String) -> Self {
        Self { client, deployment }
    }

    /// Deletes the secret of a window, at once and for good. One that is not there is deleted.
    ///
    /// # Errors
    /// [`Error::WindowSecret`].
    pub async fn delete(&self, id: &RequestId) -> Result<(), Error> {
        let answer = self
            .client
            .delete_secret()
            .secret_id(self.name(id))
            .force_delete_without_recovery(true)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), DeleteSecretError::ResourceNotFoundException(_)) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The windows that have a secret.
    ///
    /// # Errors
    /// [`Error::WindowSecret`].
    pub async fn list(&self) -> Result<Vec<RequestId>, Error> {
        let by_prefix = Filter::builder()
            .key(FilterNameStringType::Name)
            .values(handover::secret_prefix(&self.deployment))
            .build();
        let mut pages = self
            .client
            .list_secrets()
            .filters(by_prefix)
            .into_paginator()
            .send();
        let mut windows = Vec::new();
        while let Some(page) = pages.next().await {
            let secrets = page.map_err(failed)?.secret_list.unwrap_or_default();
            let names = secrets.iter().filter_map(|secret| secret.name());
            // The filter does not tell capital letters from small ones, and cuts names into words.
            windows.extend(names.filter_map(|name| handover::request_of(&self.deployment, name)));
        }
        Ok(windows)
    }

    fn name(&self, id: &RequestId) -> String {
        handover::secret_name(&self.deployment, id)
    }
}

impl WindowSecretMaker {
    /// Makes secrets that are encrypted with the key, and that nobody else than the role may change.
    #[must_use]
    pub fn new(secrets: WindowSecrets, key_arn: String, own_role_arn: String) -> Self {
        Self {
            secrets,
            key_arn,
            own_role_arn,
        }
    }

    /// Makes an empty secret that only `readers` can read, these IAM principals. Again is fine.
    ///
    /// Empty, so that there is nothing to read before the policy stands.
    ///
    /// # Errors
    /// [`Error::WindowSecret`].
    pub async fn prepare(&self, id: &RequestId, readers: &[Principal]) -> Result<(), Error> {
        let (client, name) = (&self.secrets.client, self.secrets.name(id));
        let created = client
            .create_secret()
            .name(&name)
            .description("Password of one window of Latchkey; deleted at its end")
            .kms_key_id(&self.key_arn)
            .client_request_token(token(id, "prepare"))
            .send()
            .await;
        match created {
            Ok(_) => {}
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), CreateSecretError::ResourceExistsException(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        client
            .put_resource_policy()
            .secret_id(&name)
            .resource_policy(handover::secret_policy(readers, &self.own_role_arn).to_string())
            .send()
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// The password in the secret of a window; `None` if there is no secret or nothing in it.
    ///
    /// # Errors
    /// [`Error::WindowSecret`].
    pub async fn read(&self, id: &RequestId) -> Result<Option<DatabasePassword>, Error> {
        let answer = self
            .secrets
            .client
            .get_secret_value()
            .secret_id(self.secrets.name(id))
            .send()
            .await;
        let text = match answer {
            Ok(output) => output.secret_string,
            Err(SdkError::ServiceError(error))
                if matches!(
                    error.err(),
                    GetSecretValueError::ResourceNotFoundException(_)
                ) =>
            {
                None
            }
            Err(error) => return Err(failed(error)),
        };
        let Some(text) = text else { return Ok(None) };
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let password = document["password"].as_str().ok_or_else(|| {
            Error::WindowSecret(format!("the secret of request {id} holds no password"))
        })?;
        Ok(Some(DatabasePassword::new(password.to_owned())))
    }

    /// Puts a password into the prepared secret, in RDS's form, which tools know
    /// (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html>).
    /// Of two writers with the same `version` the first one wins: read what is there afterwards.
    ///
    /// # Errors
    /// [`Error::WindowSecret`].
    pub async fn write(
        &self,
        id: &RequestId,
        version: &str,
        server: &HostPort,
        role: &RoleName,
        password: &DatabasePassword,
    ) -> Result<(), Error> {
        let document = json!({
            "engine": "postgres",
            "host": server.host,
            "port": server.port,
            "username": role,
            "password": password.expose(),
        });
        let answer = self
            .secrets
            .client
            .put_secret_value()
            .secret_id(self.secrets.name(id))
            .client_request_token(token(id, version))
            .secret_string(document.to_string())
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), PutSecretValueError::ResourceExistsException(_)) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The same for the same step of the same request, so that a retry makes no second version: 32 to 64 characters
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html>).
fn token(id: &RequestId, step: &str) -> String {
    access_core::Digest::of(&format!("{id} {step}"))
        .as_str()
        .to_owned()
}

fn failed(error: impl std::error::Error) -> Error {
    Error::WindowSecret(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_has_the_same_token_and_another_step_another_one() {
        let id = RequestId::of_execution("arn", 0);
        assert_eq!(token(&id, "first"), token(&id, "first"));
        assert_ne!(token(&id, "first"), token(&id, "second"));
        assert!((32..=64).contains(&token(&id, "first").len()));
    }
}
