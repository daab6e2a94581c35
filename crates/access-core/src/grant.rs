//! The kinds of access: what a window gives. A role document names one, and the request pins it.
//!
//! A grant is asked for by the name of its document, `roles/{target}/{name}`, whatever its kind: that name is the
//! request's `role`, the key of its windows, and what approvers type. For a [`Grant::Login`] it is the PostgreSQL role
//! itself. What else a kind needs belongs into its variant, and into a field of the document named after the kind.
//!
//! A kind is added here, in `role.schema.json`, in its sentence in `access-text`, and in its execution behind
//! [`ClosableRole`](crate::converge::carry_out::ClosableRole) and
//! [`OpenableRole`](crate::converge::carry_out::OpenableRole). Which windows cover now, and what follows from that, is
//! [`crate::converge`] for all of them.

use serde::{Deserialize, Serialize};

use crate::document::Object;
use crate::fault::{FaultName, Faults};

pub mod assume_role;
pub mod membership;

pub use assume_role::{AssumeRole, LiveSessions};
pub use membership::Membership;

/// What a window gives.
///
/// A stored request of a kind that this release does not know is not read: nothing is opened for it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Grant {
    /// LOGIN of the PostgreSQL role that the grant is named after. What documents and requests mean that say nothing.
    #[default]
    Login,
    /// Membership of a user in a role.
    Membership(Membership),
    /// A policy with which the requester's IAM user or role may assume one role of an account.
    AssumeRole(AssumeRole),
}

impl Grant {
    /// Whether it is a [`Grant::Login`].
    #[must_use]
    pub fn is_login(&self) -> bool {
        *self == Self::Login
    }

    /// The membership, if it is a [`Grant::Membership`].
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Membership(membership) => Some(membership),
            Self::Login | Self::AssumeRole(_) => None,
        }
    }

    /// The role that it lets people assume, if it is a [`Grant::AssumeRole`].
    #[must_use]
    pub fn assume_role(&self) -> Option<&AssumeRole> {
        match self {
            Self::AssumeRole(assume_role) => Some(assume_role),
            Self::Login | Self::Membership(_) => None,
        }
    }

    /// The PostgreSQL roles that it names itself.
    #[must_use]
    pub fn roles(&self) -> Vec<&str> {
        self.membership().map_or_else(Vec::new, |membership| {
            vec![membership.role.as_str(), membership.user.as_str()]
        })
    }

    /// Reads the kind of a role document, and what belongs to it; `None` if a fault was found.
    pub(crate) fn read(object: &mut Object<'_>, faults: &mut Faults) -> Option<Self> {
        match object.optional_text("kind", faults) {
            None | Some("login") => Some(Self::Login),
            Some("membership") => Membership::read(object, faults).map(Self::Membership),
            Some("assume-role") => AssumeRole::read(object, faults).map(Self::AssumeRole),
            Some(_) => {
                faults.add(
                    FaultName::InvalidValue,
                    "$.kind",
                    "give \"login\", \"membership\" or \"assume-role\"; \"login\" if absent",
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(document: &Value) -> (Option<Grant>, Vec<FaultName>) {
        let mut faults = Faults::new();
        let mut object = Object::new(document, "$", &mut faults).unwrap();
        let grant = Grant::read(&mut object, &mut faults);
        object.finish(&mut faults);
        let found = faults.into_vec().into_iter().map(|fault| fault.name);
        (grant, found.collect())
    }

    #[test]
    fn a_document_that_names_no_kind_is_a_login() {
        for document in [json!({}), json!({"kind": "login"})] {
            assert_eq!(read(&document), (Some(Grant::Login), vec![]));
        }
    }

    #[test]
    fn a_membership_says_who_becomes_a_member_of_what() {
        let sound =
            json!({"kind": "membership", "membership": {"role": "rds_superuser", "user": "riko"}});
        let (grant, faults) = read(&sound);
        assert_eq!(faults, vec![]);
        let grant = grant.unwrap();
        assert_eq!(grant.roles(), ["rds_superuser", "riko"]);
        let stored = json!({"kind": "membership", "role": "rds_superuser", "user": "riko"});
        assert_eq!(serde_json::to_value(&grant).unwrap(), stored);
        assert_eq!(serde_json::from_value::<Grant>(stored).unwrap(), grant);

        for (pointer, value, fault) in [
            ("/membership", json!({}), FaultName::MissingField),
            ("/membership", json!("dba"), FaultName::WrongType),
            (
                "/membership/user",
                json!("rdsadmin"),
                FaultName::ProtectedRole,
            ),
            ("/membership/user", json!(""), FaultName::InvalidName),
            (
                "/membership/role",
                json!("latchkey_owner"),
                FaultName::ProtectedRole,
            ),
            (
                "/membership/role",
                json!("x".repeat(64)),
                FaultName::InvalidName,
            ),
            ("/kind", json!("login"), FaultName::UnknownField),
        ] {
            let mut document = sound.clone();
            *document.pointer_mut(pointer).unwrap() = value;
            assert_eq!(read(&document).1[0], fault, "{document}");
        }
    }

    #[test]
    fn a_kind_that_this_release_does_not_know_is_neither_asked_for_nor_read_back() {
        let unknown = json!({"kind": "sudo"});
        assert_eq!(read(&unknown), (None, vec![FaultName::InvalidValue]));
        assert_eq!(
            read(&json!({"kind": 1})).1,
            vec![FaultName::WrongType],
            "a kind that is no word is not taken for a login"
        );
        assert!(serde_json::from_value::<Grant>(unknown).is_err());
    }
}
