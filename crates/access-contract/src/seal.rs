//! The seal of a vote: what is sealed, and how the sealed vote is kept.

use access_core::{Digest, Narrowing, RequestId, Vote, time};
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
///
/// A vote by link for the whole window reads as in release 0.1, whose votes are still counted.
#[must_use]
pub fn sealed_text(request_id: &RequestId, digest: &Digest, vote: &Vote) -> String {
    // A list of texts in JSON: no choice of names or comments can make two votes read alike.
    let at = vote.at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    let bounds = || {
        let narrowing = vote.narrowing.as_ref();
        let start = narrowing.and_then(Narrowing::start);
        let end = narrowing.and_then(Narrowing::end);
        (
            start.map(time::to_wait_timestamp),
            end.map(time::to_wait_timestamp),
        )
    };
    if let Some(principal) = &vote.principal {
        let (start, end) = bounds();
        return serde_json::json!([
            "latchkey-vote-3",
            request_id,
            digest,
            vote.approver,
            vote.verdict,
            at,
            vote.comment,
            start,
            end,
            principal,
        ])
        .to_string();
    }
    if vote.narrowing.is_none() {
        return serde_json::json!([
            "latchkey-vote-1",
            request_id,
            digest,
            vote.approver,
            vote.verdict,
            at,
            vote.comment,
        ])
        .to_string();
    }
    let (start, end) = bounds();
    serde_json::json!([
        "latchkey-vote-2",
        request_id,
        digest,
        vote.approver,
        vote.verdict,
        at,
        vote.comment,
        start,
        end,
    ])
    .to_string()
}

/// The text that the seal of a requester's own vote covers, where they break the glass. No vote of an approver reads
/// like it, nor it like one.
#[must_use]
pub fn break_glass_text(request_id: &RequestId, digest: &Digest, vote: &Vote) -> String {
    serde_json::json!([
        "latchkey-break-glass-1",
        sealed_text(request_id, digest, vote)
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

#[cfg(test)]
mod tests {
    use access_core::{PersonId, Verdict};
    use chrono::{DateTime, Utc};

    use super::*;

    fn text(narrowing: Option<Narrowing>) -> String {
        text_by(narrowing, None)
    }

    fn text_by(narrowing: Option<Narrowing>, principal: Option<&str>) -> String {
        let vote = Vote {
            approver: PersonId::new("alice").unwrap(),
            verdict: Verdict::Approve,
            at: at("2026-11-22T10:05:00.000123456Z"),
            comment: "go".to_owned(),
            narrowing,
            principal: principal.map(str::to_owned),
        };
        let id = RequestId::new("r-0123456789abcdef").unwrap();
        sealed_text(&id, &Digest::from_text("d"), &vote)
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn every_narrowing_has_a_text_of_its_own() {
        let (start, end) = (
            Some(at("2026-11-22T11:00:00Z")),
            Some(at("2026-11-22T11:30:00Z")),
        );
        assert_eq!(
            text(Narrowing::new(start, end)),
            r#"["latchkey-vote-2","r-0123456789abcdef","d","alice","approve","2026-11-22T10:05:00.000123456Z","go","2026-11-22T11:00:00Z","2026-11-22T11:30:00Z"]"#
        );
        let all = [
            text(None),
            text(Narrowing::new(start, None)),
            text(Narrowing::new(None, start)),
            text(Narrowing::new(start, end)),
            text(Narrowing::new(None, end)),
            text_by(None, Some("arn:a")),
            text_by(None, Some("arn:b")),
            text_by(Narrowing::new(start, end), Some("arn:a")),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
