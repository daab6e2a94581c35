//! The link of one's own: who may do what with which request until when, sealed by KMS.

use access_core::{Digest, PersonId, RequestId};
use chrono::{DateTime, Utc};

/// The longest link segment that is looked at; a real one has under 300 characters.
pub const MAX_LINK_CHARACTERS: usize = 400;

/// Release 0.1 wrote the first version, without a purpose.
const VERSIONS: [&str; 2] = ["1", "2"];
const SEPARATOR: char = '~';

/// What a link is for. It stands in the sealed text, so that a link to end something can never decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To decide, and afterwards to end what was decided.
    Decide,
    /// To end the request or its window, and nothing else.
    End,
}

impl Purpose {
    /// The word in the link, and in the path before it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::End => "end",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Decide, Self::End]
            .into_iter()
            .find(|purpose| purpose.as_str() == word)
    }
}

/// What a link says. Only its seal proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is for. `None` in a link of release 0.1, which was to decide.
    pub purpose: Option<Purpose>,
    /// Which request.
    pub request_id: RequestId,
    /// Whose link it is.
    pub person: PersonId,
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
    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose.unwrap_or(Purpose::Decide)
    }

    /// The text that is sealed.
    #[must_use]
    pub fn sealed_text(&self) -> String {
        let [first, second] = VERSIONS;
        let version = match self.purpose {
            None => first.to_owned(),
            Some(purpose) => format!("{second}{SEPARATOR}{}", purpose.as_str()),
        };
        let expires_at = self.expires_at.timestamp();
        format!(
            "{version}~{}~{}~{expires_at}~{}~{}",
            self.request_id,
            self.person,
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
        let mut parts: Vec<&str> = segment.split(SEPARATOR).collect();
        let [first, second] = VERSIONS;
        let purpose = match parts.remove(0) {
            version if version == first => None,
            version if version == second && !parts.is_empty() => {
                let purpose = Purpose::from_word(parts.remove(0));
                Some(purpose.ok_or(LinkError("unknown purpose"))?)
            }
            _ => return Err(LinkError("unknown version")),
        };
        let [request_id, person, expires_at, digest, key_id, mac] = parts[..] else {
            return Err(LinkError("not all parts"));
        };
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
            purpose,
            request_id: RequestId::new(request_id).map_err(|_| LinkError("no request id"))?,
            person: PersonId::new(person).map_err(|_| LinkError("no person"))?,
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
            purpose: Some(Purpose::Decide),
            request_id: RequestId::new("r-0123456789abcdef").unwrap(),
            person: PersonId::new("alice.b_c-d").unwrap(),
            expires_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            digest: Digest::of("{}"),
            key_id: "1234abcd-12ab-34cd-56ef-1234567890ab".to_owned(),
        }
    }

    #[test]
    fn a_link_reads_back_the_same() {
        for purpose in [None, Some(Purpose::Decide), Some(Purpose::End)] {
            let link = Link { purpose, ..link() };
            let segment = link.to_segment(&[7; 32]);
            assert_eq!(Link::parse(&segment), Ok((link, vec![7; 32])));
            assert!(
                segment.len() < 300
                    && segment
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
            );
        }
    }

    #[test]
    fn a_link_of_0_1_decides_and_every_purpose_has_a_text_of_its_own() {
        let digest = link().digest;
        let of_0_1 = format!(
            "1~r-0123456789abcdef~alice.b_c-d~1800000000~{}~1234abcd-12ab-34cd-56ef-1234567890ab",
            digest.as_str()
        );
        let mac = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]);
        let (read, _) = Link::parse(&format!("{of_0_1}~{mac}")).unwrap();
        assert_eq!(
            (read.purpose(), read.sealed_text()),
            (Purpose::Decide, of_0_1)
        );
        let texts: std::collections::BTreeSet<String> =
            [None, Some(Purpose::Decide), Some(Purpose::End)]
                .map(|purpose| Link { purpose, ..link() }.sealed_text())
                .into();
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn anything_else_is_no_link() {
        let good = link().to_segment(&[7; 32]);
        for bad in [
            "".to_owned(),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            format!("{good}~"),
            good.replacen("2~", "3~", 1),
            good.replacen("2~", "1~", 1),
            good.replacen("2~decide~", "1~", 1) + "~x",
            good.replacen("~decide~", "~approve~", 1),
            good.replacen("~decide~", "~", 1),
            "2".to_owned(),
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
