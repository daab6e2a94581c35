//! The link of one's own: who may decide on what until when, sealed by KMS.

use access_core::{Digest, PersonId, RequestId};
use chrono::{DateTime, Utc};

/// The longest link segment that is looked at; a real one has under 300 characters.
pub const MAX_LINK_CHARACTERS: usize = 400;

const VERSION: &str = "1";
const SEPARATOR: char = '~';

/// What a link says. Only its seal proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which request.
    pub request_id: RequestId,
    /// Whose link it is.
    pub approver: PersonId,
    /// When it stops working.
    pub expires_at: DateTime<Utc>,
    /// The request as it was when the link was made.
    pub digest: Digest,
    /// The id of the KMS key that sealed it.
    pub key_id: String,
}

/// Why a text is no link. People see one sentence for all of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed link: {0}")]
pub struct LinkError(&'static str);

impl Link {
    /// The text that is sealed.
    #[must_use]
    pub fn sealed_text(&self) -> String {
        let expires_at = self.expires_at.timestamp();
        format!(
            "{VERSION}~{}~{}~{expires_at}~{}~{}",
            self.request_id,
            self.approver,
            self.digest.as_str(),
            self.key_id
        )
    }

    /// The path segment: the sealed text and its seal, all in characters that URLs keep as they are
    /// (<https://www.rfc-editor.org/rfc/rfc3986#section-2.3>).
    #[must_use]
    pub fn to_segment(&self, mac: &[u8]) -> String {
        format!(
            "{}{SEPARATOR}{}",
            self.sealed_text(),
            data_encoding::BASE64URL_NOPAD.encode(mac)
        )
    }

    /// Reads a path segment. The link proves nothing until its seal is verified over [`Link::sealed_text`].
    ///
    /// # Errors
    /// [`LinkError`] if the text has not exactly the form that [`Link::to_segment`] writes.
    pub fn parse(segment: &str) -> Result<(Self, Vec<u8>), LinkError> {
        if segment.len() > MAX_LINK_CHARACTERS {
            return Err(LinkError("too long"));
        }
        let parts: Vec<&str> = segment.split(SEPARATOR).collect();
        let [
            version,
            request_id,
            approver,
            expires_at,
            digest,
            key_id,
            mac,
        ] = parts[..]
        else {
            return Err(LinkError("not seven parts"));
        };
        if version != VERSION {
            return Err(LinkError("unknown version"));
        }
        let base64 = data_encoding::BASE64URL_NOPAD;
        if base64
            .decode(digest.as_bytes())
            .map_or(0, |bytes| bytes.len())
            != 32
        {
            return Err(LinkError("no digest"));
        }
        let key_characters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if key_id.is_empty() || !key_id.bytes().all(key_characters) {
            return Err(LinkError("no key id"));
        }
        let mac = base64
            .decode(mac.as_bytes())
            .map_err(|_| LinkError("no seal"))?;
        if mac.len() != 32 {
            return Err(LinkError("no seal"));
        }
        let link = Self {
            request_id: RequestId::new(request_id).map_err(|_| LinkError("no request id"))?,
            approver: PersonId::new(approver).map_err(|_| LinkError("no approver"))?,
            expires_at: expires_at
                .parse()
                .ok()
                .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
                .ok_or(LinkError("no expiry"))?,
            digest: Digest::from_text(digest),
            key_id: key_id.to_owned(),
        };
        // One link has one spelling: "+5" and "05" are not the number that was sealed.
        if link.to_segment(&mac) != segment {
            return Err(LinkError("not as it was written"));
        }
        Ok((link, mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            request_id: RequestId::new("r-0123456789abcdef").unwrap(),
            approver: PersonId::new("alice.b_c-d").unwrap(),
            expires_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            digest: Digest::of("{}"),
            key_id: "1234abcd-12ab-34cd-56ef-1234567890ab".to_owned(),
        }
    }

    #[test]
    fn a_link_reads_back_the_same() {
        let segment = link().to_segment(&[7; 32]);
        assert_eq!(Link::parse(&segment), Ok((link(), vec![7; 32])));
        assert!(
            segment.len() < 300
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        );
    }

    #[test]
    fn anything_else_is_no_link() {
        let good = link().to_segment(&[7; 32]);
        for bad in [
            "".to_owned(),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            format!("{good}~"),
            good.replacen("1~", "2~", 1),
            good.replace("~18", "~+18"),
            good.replace("~18", "~018"),
            good.replace("r-0", "r-/"),
            good.to_uppercase(),
            "x".repeat(5000),
        ] {
            assert!(Link::parse(&bad).is_err(), "{bad}");
        }
    }
}
