//! The rights of a role in another account, for a quarter of an hour.

use access_core::AssumedRole;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;

use crate::Error;
use crate::error::chain;

/// How CloudTrail names what is done with these rights.
const SESSION_NAME: &str = "latchkey";

/// The shortest that AWS gives, in seconds; what Latchkey does with one takes less than a minute
/// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).
const SESSION_SECONDS: i32 = 900;

/// `config` with the rights of `role` instead of its own.
///
/// # Errors
/// [`Error::AssumeRole`].
pub async fn assume(config: &SdkConfig, role: &AssumedRole) -> Result<SdkConfig, Error> {
    let failed = |cause: String| Error::AssumeRole {
        role: role.role.clone(),
        cause,
    };
    let output = aws_sdk_sts::Client::new(config)
        .assume_role()
        .role_arn(&role.role)
        .role_session_name(SESSION_NAME)
        .external_id(&role.external_id)
        .duration_seconds(SESSION_SECONDS)
        .send()
        .await
        .map_err(|error| failed(chain(error)))?;
    let given = output
        .credentials
        .ok_or_else(|| failed("STS gave no credentials".to_owned()))?;
    let credentials = Credentials::new(
        given.access_key_id,
        given.secret_access_key,
        Some(given.session_token),
        given.expiration.try_into().ok(),
        "assumed role",
    );
    Ok(config
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build())
}
