//! Whether a membership could be given for a window: what the database says beside the state that every kind has.

use access_core::{Refusal, RoleName, grant};
use access_postgres::{Connection, Membership};
use lambda_shell::Failure;

use crate::handler::postgres;

/// What was found.
pub(crate) struct Found {
    /// The OID of the user that is registered.
    pub(crate) user_oid: u32,
    /// Why it could not be given.
    pub(crate) refusals: Vec<Refusal>,
}

/// Looks at the membership registered as `name`, for which people are asked as `asked`.
pub(crate) async fn look(
    connection: &Connection,
    name: &RoleName,
    asked: &grant::Membership,
) -> Result<Found, Failure> {
    let registered = connection.membership(name.as_str()).await;
    let registered = registered.map_err(postgres)?;
    Ok(Found {
        user_oid: registered.user_oid,
        refusals: refusals(&registered, asked),
    })
}

fn refusals(registered: &Membership, asked: &grant::Membership) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if registered.role != asked.role.as_str() || registered.user != asked.user.as_str() {
        refusals.push(Refusal::OtherMembershipRegistered {
            role: registered.role.clone(),
            user: registered.user.clone(),
            asked_role: asked.role.to_string(),
            asked_user: asked.user.to_string(),
        });
    }
    if !registered.held_by.is_empty() {
        refusals.push(Refusal::MemberAlready {
            held_by: registered.held_by.clone(),
        });
    }
    if !registered.acted_as_by.is_empty() {
        refusals.push(Refusal::UserActedAsByOthers {
            roles: registered.acted_as_by.clone(),
        });
    }
    refusals
}

#[cfg(test)]
mod tests {
    use access_core::{FaultName, GrantedRoleName};

    use super::*;

    fn names(registered: &Membership) -> Vec<FaultName> {
        let asked = grant::Membership {
            role: GrantedRoleName::new("dba").unwrap(),
            user: RoleName::new("riko").unwrap(),
        };
        let refusals = refusals(registered, &asked);
        refusals.iter().map(Refusal::name).collect()
    }

    #[test]
    fn a_membership_is_given_only_as_it_was_asked_for_and_only_if_it_can_be_ended() {
        let sound = Membership {
            role: "dba".to_owned(),
            user: "riko".to_owned(),
            user_oid: 16_400,
            held_by: Vec::new(),
            acted_as_by: Vec::new(),
        };
        assert_eq!(names(&sound), []);
        let other_user = Membership {
            user: "alice".to_owned(),
            ..sound.clone()
        };
        assert_eq!(names(&other_user), [FaultName::RoleNotRegistered]);
        let held = Membership {
            held_by: vec!["granted by master".to_owned()],
            acted_as_by: vec!["friend".to_owned()],
            ..sound
        };
        assert_eq!(
            names(&held),
            [FaultName::MemberAlready, FaultName::UserActedAsByOthers]
        );
    }
}
