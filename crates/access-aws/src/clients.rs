//! The SDK's configuration, made once at start-up.
//!
//! Without `aws-config`: a function gets region and credentials in its environment
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>), so the
//! chain behind it, with STS, profiles, containers and instance metadata, would only be weight.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use chrono::TimeDelta;

use crate::Error;
use crate::error::chain;

/// The roots behind every endpoint of AWS, from <https://www.amazontrust.com/repository/>. The system's hundred and
/// more would be parsed once for each client of a cold start, and any of them could vouch for AWS.
const AMAZON_TRUST_SERVICES: &str = include_str!("../aws-roots/amazon-trust-services.pem");

/// Region, credentials and endpoint from the function's environment, one TLS stack for all clients.
///
/// Of the SDK's own variables, `AWS_ENDPOINT_URL` names another endpoint for all services, and `AWS_CA_BUNDLE` a file
/// of PEM certificates to trust instead of Amazon's
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html>). Others are not read.
///
/// # Errors
/// [`Error::Configuration`] if the region or the credentials are missing, [`Error::CaBundle`] if the file cannot be
/// read or used.
pub fn sdk_config() -> Result<SdkConfig, Error> {
    let trust = match optional("AWS_CA_BUNDLE") {
        None => AMAZON_TRUST_SERVICES.as_bytes().to_vec(),
        Some(path) => ca_bundle(path)?,
    };
    let tls = TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(trust))
        .build()
        .map_err(|error| Error::CaBundle {
            path: "AWS_CA_BUNDLE".to_owned(),
            cause: chain(error),
        })?;
    let http_client = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(15))
        .build();
    let credentials = Credentials::new(
        environment("AWS_ACCESS_KEY_ID")?,
        environment("AWS_SECRET_ACCESS_KEY")?,
        optional("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(environment("AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::default());
    config.set_endpoint_url(optional("AWS_ENDPOINT_URL"));
    Ok(config.build())
}

/// A required environment variable.
///
/// # Errors
/// [`Error::Configuration`] if it is missing or empty.
pub fn environment(name: &'static str) -> Result<String, Error> {
    optional(name).ok_or(Error::Configuration(name))
}

/// A number of seconds that an environment variable gives.
///
/// # Errors
/// [`Error::Configuration`] if it is missing or no number.
pub fn environment_seconds(name: &'static str) -> Result<TimeDelta, Error> {
    let seconds = environment(name)?.parse().ok();
    seconds
        .and_then(TimeDelta::try_seconds)
        .ok_or(Error::Configuration(name))
}

fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The SDK would take an unusable file for an empty one and trust nobody, or panic at the first call.
fn ca_bundle(path: String) -> Result<Vec<u8>, Error> {
    match std::fs::read(&path) {
        Ok(pem)
            if pem
                .windows(CERTIFICATE.len())
                .any(|text| text == CERTIFICATE) =>
        {
            Ok(pem)
        }
        Ok(_) => Err(Error::CaBundle {
            path,
            cause: "it holds no PEM certificate".to_owned(),
        }),
        Err(error) => Err(Error::CaBundle {
            path,
            cause: chain(error),
        }),
    }
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_five_roots_are_built_in() {
        assert_eq!(
            AMAZON_TRUST_SERVICES.matches("BEGIN CERTIFICATE").count(),
            5
        );
    }

    #[test]
    fn a_ca_bundle_that_cannot_be_used_is_an_error_and_never_the_built_in_roots() {
        let missing = ca_bundle("/nowhere/ca.pem".to_owned()).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
        let no_pem = ca_bundle("/proc/self/cmdline".to_owned()).unwrap_err();
        assert!(no_pem.to_string().contains("no PEM"), "{no_pem}");
    }
}
