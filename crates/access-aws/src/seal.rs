//! Seals: MACs that KMS makes and verifies, so that no function holds key material.

use aws_sdk_kms::Client;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::verify_mac::VerifyMacError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;

use crate::Error;
use crate::error::chain;

/// One sealing key.
pub struct SealingKey {
    client: Client,
    key_arn: String,
}

impl SealingKey {
    /// The key with this ARN.
    #[must_use]
    pub fn new(client: Client, key_arn: String) -> Self {
        Self { client, key_arn }
    }

    /// The key's id, which stands in links so that an old link names the key that sealed it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.key_arn.rsplit('/').next().unwrap_or_default()
    }

    /// Makes the seal of `text`, which may have up to 4,096 bytes
    /// (<https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html>).
    ///
    /// # Errors
    /// [`Error::Seal`].
    pub async fn seal(&self, text: &str) -> Result<Vec<u8>, Error> {
        let output = self
            .client
            .generate_mac()
            .key_id(&self.key_arn)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(text))
            .send()
            .await
            .map_err(|error| Error::Seal(chain(error)))?;
        output
            .mac
            .map(Blob::into_inner)
            .ok_or_else(|| Error::Seal("KMS gave no MAC".to_owned()))
    }

    /// Whether `seal` is this key's seal of `text`.
    ///
    /// # Errors
    /// [`Error::Seal`] if KMS cannot be asked; a wrong seal is an answer, not an error.
    pub async fn verify(&self, text: &str, seal: &[u8]) -> Result<bool, Error> {
        if seal.is_empty() {
            return Ok(false);
        }
        let answer = self
            .client
            .verify_mac()
            .key_id(&self.key_arn)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(text))
            .mac(Blob::new(seal))
            .send()
            .await;
        match answer {
            Ok(output) => Ok(output.mac_valid),
            Err(SdkError::ServiceError(error)) if is_wrong_seal(error.err()) => Ok(false),
            Err(error) => Err(Error::Seal(chain(error))),
        }
    }
}

fn is_wrong_seal(error: &VerifyMacError) -> bool {
    error.is_kms_invalid_mac_exception()
}
