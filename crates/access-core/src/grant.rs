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

/// What a window gives.
///
/// A stored request of a kind that this release does not know is not read: nothing is opened for it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Grant {
    /// LOGIN of the PostgreSQL role that the grant is named after. What documents and requests mean that say nothing.
    #[default]
    Login,
}

impl Grant {
    /// Whether it is a [`Grant::Login`].
    #[must_use]
    pub fn is_login(&self) -> bool {
        *self == Self::Login
    }

    /// Reads the kind of a role document; `None` if a fault was found.
    pub(crate) fn read(object: &mut Object<'_>, faults: &mut Faults) -> Option<Self> {
        match object.optional_text("kind", faults) {
            None | Some("login") => Some(Self::Login),
            Some(_) => {
                faults.add(
                    FaultName::InvalidValue,
                    "$.kind",
                    "give \"login\", or leave it out",
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
