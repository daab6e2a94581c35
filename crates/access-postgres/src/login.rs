//! Who we log in as: a user and a secret that no output shows.

use std::fmt;

use crate::Endpoint;

/// A password or token. It cannot be printed, copied or serialised.
pub struct Password(String);

impl Password {
    /// Takes the secret text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(_)")
    }
}

/// A database user and what proves that we are it.
#[derive(Debug)]
pub struct Login {
    user: String,
    secret: Password,
    /// Tokens for further servers, by host and port.
    tokens: Vec<(String, u16, Password)>,
    kind: SecretKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// Checked by SCRAM, which proves the password without sending it.
    Password,
    /// Sent as it is inside TLS: RDS checks it through PAM, which knows no SCRAM.
    Token,
}

impl Login {
    /// A user whose password is stored in the server as `scram-sha-256`.
    ///
    /// Channel binding is demanded, so the server must be the one whose certificate we saw.
    /// A server that stores the password as `md5` is refused; set `password_encryption` and the password again.
    #[must_use]
    pub fn with_password(user: impl Into<String>, password: Password) -> Self {
        Self {
            user: user.into(),
            secret: password,
            tokens: Vec::new(),
            kind: SecretKind::Password,
        }
    }

    /// A user with an RDS IAM token, which the server asks for in clear (inside TLS).
    ///
    /// See <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>.
    #[must_use]
    pub fn with_token(user: impl Into<String>, token: Password) -> Self {
        Self {
            user: user.into(),
            secret: token,
            tokens: Vec::new(),
            kind: SecretKind::Token,
        }
    }

    /// Adds the token for another server: RDS makes each token for one host and port.
    #[must_use]
    pub fn and_token_for(mut self, host: impl Into<String>, port: u16, token: Password) -> Self {
        self.tokens.push((host.into(), port, token));
        self
    }

    /// The name of the database user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn secret(&self, server: &Endpoint) -> &str {
        self.tokens
            .iter()
            .find(|(host, port, _)| *host == server.host && *port == server.port)
            .map_or(&self.secret, |(_, _, token)| token)
            .reveal()
    }

    pub(crate) fn kind(&self) -> SecretKind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_login_does_not_show_the_secret() {
        let login = Login::with_password("latchkey_opener", Password::new("hunter2".to_owned()));
        let shown = format!("{login:?}");
        assert!(shown.contains("latchkey_opener"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
