//! Names that cross a boundary: roles, targets, people and requests.

use serde::{Deserialize, Serialize};
use unicode_normalization::is_nfc;

use crate::fault::FaultName;
use crate::plain_text;

/// The longest name that PostgreSQL keeps, in bytes; longer ones are cut with no more than a notice
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
pub const MAX_ROLE_NAME_BYTES: usize = 63;

/// The name of a PostgreSQL role that may be managed: exactly these bytes, never folded or cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleName(String);

impl RoleName {
    /// Takes a name that PostgreSQL keeps whole and that nobody can mistake for another.
    ///
    /// # Errors
    /// [`NameError`] with [`FaultName::InvalidName`] or [`FaultName::ProtectedRole`].
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let GrantedRoleName(name) = GrantedRoleName::new(name)?;
        let folded = name.to_ascii_lowercase();
        if folded.starts_with("pg_") || folded.starts_with("rds") {
            return Err(NameError {
                fault: FaultName::ProtectedRole,
                why: "choose another role; pg_*, rds* and latchkey_* are never managed",
            });
        }
        Ok(Self(name))
    }

    /// The name, byte for byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a PostgreSQL role that somebody may become a member of: a predefined one or one of RDS too, such as
/// `rds_superuser`, and else as a [`RoleName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GrantedRoleName(String);

impl GrantedRoleName {
    /// Takes a name that PostgreSQL keeps whole and that nobody can mistake for another.
    ///
    /// # Errors
    /// [`NameError`] with [`FaultName::InvalidName`] or [`FaultName::ProtectedRole`].
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let invalid = |why: &'static str| {
            Err(NameError {
                fault: FaultName::InvalidName,
                why,
            })
        };
        if name.is_empty() {
            return invalid("name the PostgreSQL role");
        }
        if name.len() > MAX_ROLE_NAME_BYTES {
            return invalid(
                "use a role name of at most 63 bytes; PostgreSQL would cut this one and mean another role",
            );
        }
        if name.trim() != name {
            return invalid("remove the white space around the role name");
        }
        if name
            .chars()
            .any(|c| plain_text::refused_in_names(c).is_some())
        {
            return invalid(
                "remove control, invisible and text-direction characters from the role name",
            );
        }
        if !is_nfc(&name) {
            return invalid(
                "write the role name in Unicode normalization form C, as the catalogue does",
            );
        }
        let folded = name.to_ascii_lowercase();
        if folded.starts_with("latchkey_") {
            return Err(NameError {
                fault: FaultName::ProtectedRole,
                why: "choose another role; pg_*, rds* and latchkey_* are never managed",
            });
        }
        if matches!(
            folded.as_str(),
            "public" | "none" | "current_user" | "current_role" | "session_user"
        ) {
            return Err(NameError {
                fault: FaultName::ProtectedRole,
                why: "choose another role; this word has a meaning of its own in PostgreSQL",
            });
        }
        Ok(Self(name))
    }

    /// The name, byte for byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a database in the catalogue: 1 to 63 of `a-z 0-9 -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetId(String);

impl TargetId {
    /// Takes a well-formed target id.
    ///
    /// # Errors
    /// [`NameError`] with [`FaultName::InvalidName`].
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        if is_id(&id, b"-") {
            return Ok(Self(id));
        }
        Err(NameError {
            fault: FaultName::InvalidName,
            why: "use 1 to 63 of the characters a-z, 0-9 and -, beginning with a letter or digit",
        })
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a person in the catalogue: 1 to 63 of `a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonId(String);

impl PersonId {
    /// Takes a well-formed person id.
    ///
    /// # Errors
    /// [`NameError`] with [`FaultName::InvalidName`].
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        if is_id(&id, b"-._") {
            return Ok(Self(id));
        }
        Err(NameError {
            fault: FaultName::InvalidName,
            why: "use 1 to 63 of the characters a-z, 0-9, dot, underscore and -, beginning with a letter or digit",
        })
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a request: `r-` and 16 of Crockford's base-32 letters, derived from its execution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// The id of the request that the execution `arn`, started at this millisecond, makes. The start is
    /// part of it because execution names may be used again after 90 days
    /// (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>).
    #[must_use]
    pub fn of_execution(arn: &str, started_at_millis: i64) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::digest(format!("{arn}\n{started_at_millis}"));
        let letters = b"0123456789abcdefghjkmnpqrstvwxyz";
        let text: String = hash[..16]
            .iter()
            .map(|byte| char::from(letters[usize::from(byte % 32)]))
            .collect();
        Self(format!("r-{text}"))
    }

    /// Takes a well-formed request id.
    ///
    /// # Errors
    /// [`NameError`] with [`FaultName::InvalidName`].
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        let well_formed = id.strip_prefix("r-").is_some_and(|rest| {
            rest.len() == 16
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        });
        if well_formed {
            return Ok(Self(id));
        }
        Err(NameError {
            fault: FaultName::InvalidName,
            why: "use a request id such as r-0123456789abcdef",
        })
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an execution that the front door starts: one for each person and key, or for each call without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskingName(String);

impl AskingName {
    /// The name for a key that the caller chose, so that the same call again means the same execution.
    #[must_use]
    pub fn of_key(person: &PersonId, key: &str) -> Self {
        Self::of("key", person, key)
    }

    /// The name for a call without a key, by the call's own id.
    #[must_use]
    pub fn of_call(person: &PersonId, call_id: &str) -> Self {
        Self::of("call", person, call_id)
    }

    fn of(kind: &str, person: &PersonId, text: &str) -> Self {
        use sha2::{Digest as _, Sha256};
        let whole = serde_json::json!(["latchkey-asking-1", kind, person, text]).to_string();
        let hash = Sha256::digest(whole.as_bytes());
        Self(format!(
            "asked-{}",
            data_encoding::HEXLOWER.encode(&hash[..16])
        ))
    }

    /// The name: 38 characters that Step Functions takes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a name was refused, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NameError {
    /// The name of the fault.
    pub fault: FaultName,
    /// One sentence that says how to mend it.
    pub why: &'static str,
}

fn is_id(id: &str, also: &[u8]) -> bool {
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&id.len())
        && id.bytes().next().is_some_and(letter_or_digit)
        && id
            .bytes()
            .all(|byte| letter_or_digit(byte) || also.contains(&byte))
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_form!(RoleName, GrantedRoleName, TargetId, PersonId, RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str) -> Option<FaultName> {
        RoleName::new(name).err().map(|error| error.fault)
    }

    #[test]
    fn ordinary_role_names_are_kept_byte_for_byte() {
        for name in [
            "breakglass",
            "Break Glass",
            "é",
            "roler\"quote",
            "ロール",
            &"x".repeat(63),
        ] {
            assert_eq!(RoleName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_mean_another_role_are_refused() {
        for name in [
            "",
            &"x".repeat(64),
            &"é".repeat(32),
            " x",
            "x\0",
            "a\u{202e}b",
            "a\u{200b}b",
            "e\u{301}",
            "a\nb",
        ] {
            assert_eq!(fault(name), Some(FaultName::InvalidName), "{name:?}");
        }
    }

    #[test]
    fn protected_roles_are_refused() {
        for name in [
            "pg_monitor",
            "PG_monitor",
            "rdsadmin",
            "rds_superuser",
            "RDS_x",
            "latchkey_owner",
            "public",
        ] {
            assert_eq!(fault(name), Some(FaultName::ProtectedRole), "{name:?}");
        }
    }

    #[test]
    fn one_person_and_key_have_one_execution() {
        let person = |id: &str| PersonId::new(id).unwrap();
        let name = AskingName::of_key(&person("riko"), "k1");
        assert_eq!(name, AskingName::of_key(&person("riko"), "k1"));
        assert_eq!(name.as_str().len(), 38);
        for other in [
            AskingName::of_key(&person("riko"), "k2"),
            AskingName::of_key(&person("alice"), "k1"),
            AskingName::of_call(&person("riko"), "k1"),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn one_execution_has_one_request_id() {
        let id = RequestId::of_execution("arn:x", 1_767_225_600_000);
        assert_eq!(id, RequestId::of_execution("arn:x", 1_767_225_600_000));
        assert_ne!(id, RequestId::of_execution("arn:x", 1_775_001_600_000));
        assert_eq!(RequestId::new(id.as_str()), Ok(id));
    }
}
