//! The password of one window: made here, kept by others, and never sent to the server.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use postgres_protocol::password::scram_sha_256;
use sha2::{Digest as _, Sha256};

/// Random bytes in a password: 256 bits, which nobody guesses and no dictionary holds.
const N_RANDOM_BYTES: usize = 32;

/// A password made for a window. It cannot be printed, copied or serialised.
#[derive(PartialEq, Eq)]
pub struct WindowPassword(String);

/// Tells one window password from another and says nothing about it: SHA-256 over 256 random bits, in 43 characters of
/// base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

/// What the database knows of the password that was made for a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingPassword {
    /// Which one it is; `None` if none was made, or the last one was taken away.
    pub fingerprint: Option<Fingerprint>,
    /// The SQLSTATE with which taking it away failed, if it did.
    pub kept_because: Option<String>,
}

impl WindowPassword {
    /// Makes a new one from the operating system's random numbers: 43 characters of `A-Z a-z 0-9 - _`, which no URL,
    /// shell or connection string needs to escape.
    ///
    /// # Errors
    ///
    /// When the operating system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; N_RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(BASE64URL_NOPAD.encode(&bytes)))
    }

    /// Takes back one that was kept.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The password itself, for whoever it is kept for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Which password this is.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::digest(format!("latchkey window password\n{}", self.0));
        Fingerprint(BASE64URL_NOPAD.encode(&digest))
    }

    /// What PostgreSQL keeps of it, with a new salt each time
    /// (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>).
    pub(crate) fn verifier(&self) -> String {
        scram_sha_256(self.0.as_bytes())
    }
}

impl fmt::Debug for WindowPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WindowPassword(_)")
    }
}

impl Fingerprint {
    pub(crate) fn from_text(text: String) -> Self {
        Self(text)
    }

    /// 43 characters of base64url.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_random_long_and_need_no_escaping() {
        let (one, other) = (
            WindowPassword::random().unwrap(),
            WindowPassword::random().unwrap(),
        );
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), 43);
        assert!(
            one.expose()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        );
        assert_ne!(one.fingerprint(), other.fingerprint());
        let kept = WindowPassword::from_text(one.expose().to_owned());
        assert_eq!(kept.fingerprint(), one.fingerprint());
    }

    #[test]
    fn neither_output_nor_verifier_nor_fingerprint_shows_it() {
        let password = WindowPassword::from_text("hunter2hunter2".to_owned());
        for shown in [
            format!("{password:?}"),
            password.verifier(),
            password.fingerprint().as_str().to_owned(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(password.verifier().starts_with("SCRAM-SHA-256$4096:"));
    }
}
