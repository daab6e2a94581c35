//! A membership that a window gives: one PostgreSQL user may act as one role.
//!
//! It is registered in the database under the name of its document. PostgreSQL ends no membership by itself: the
//! schedule and reconcile do.

use serde::{Deserialize, Serialize};

use crate::catalogue::named;
use crate::document::Object;
use crate::fault::Faults;
use crate::names::{GrantedRoleName, RoleName};

/// Who becomes a member of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The role whose rights the window gives.
    pub role: GrantedRoleName,
    /// The user who gets them, and logs in as ever.
    pub user: RoleName,
}

impl Membership {
    /// Reads the field `membership` of a role document; `None` if a fault was found.
    pub(crate) fn read(object: &mut Object<'_>, faults: &mut Faults) -> Option<Self> {
        let value = object.required("membership", faults)?;
        let path = object.path_of("membership");
        let mut membership = Object::new(value, &path, faults)?;
        let role = membership
            .text("role", faults)
            .and_then(|name| named(GrantedRoleName::new(name), &format!("{path}.role"), faults));
        let user = membership
            .text("user", faults)
            .and_then(|name| named(RoleName::new(name), &format!("{path}.user"), faults));
        membership.finish(faults);
        Some(Self {
            role: role?,
            user: user?,
        })
    }
}
