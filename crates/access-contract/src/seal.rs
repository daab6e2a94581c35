//! The seal of a vote: what is sealed, and how the sealed vote is kept.

use access_core::{Digest, RequestId, Vote};
use serde::{Deserialize, Serialize};

/// A vote with the seal that only approval can make and enable-login verifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedVote {
    /// The vote.
    pub vote: Vote,
    /// KMS's MAC over [`sealed_text`], as base64.
    pub seal: String,
}

/// The text that a vote's seal covers: the request as it was shown, and everything the approver said.
#[must_use]
pub fn sealed_text(request_id: &RequestId, digest: &Digest, vote: &Vote) -> String {
    // A list of texts in JSON: no choice of names or comments can make two votes read alike.
    serde_json::json!([
        "latchkey-vote-1",
        request_id,
        digest,
        vote.approver,
        vote.verdict,
        vote.at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
        vote.comment,
    ])
    .to_string()
}

/// The bytes of a seal as the table keeps them.
#[must_use]
pub fn encode(mac: &[u8]) -> String {
    data_encoding::BASE64.encode(mac)
}

/// The bytes of a kept seal; empty if it is not base64, which no KMS key verifies.
#[must_use]
pub fn decode(seal: &str) -> Vec<u8> {
    data_encoding::BASE64
        .decode(seal.as_bytes())
        .unwrap_or_default()
}
