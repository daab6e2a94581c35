//! What a database says about a role that whoever approves it should know.

use serde::{Deserialize, Serialize};

/// The roles whose rights amount to taking over a cluster: RDS's administrator, and those of
/// <https://www.postgresql.org/docs/current/predefined-roles.html> that reach the server's files and programs.
const POWERFUL_ROLES: [&str; 4] = [
    "rds_superuser",
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
];

/// One thing about a role, as preflight saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// It has the rights of these roles too, directly or through others.
    MemberOf {
        /// Their names, in order.
        roles: Vec<String>,
    },
    /// These roles can act as it at any time, inside and outside of windows.
    ActedAsBy {
        /// Their names, in order.
        roles: Vec<String>,
    },
    /// It may create and change roles.
    CreateRole,
    /// It may create databases.
    CreateDatabase,
    /// It may copy the whole cluster.
    Replication,
    /// Row-level security does not hold for it.
    BypassRowSecurity,
    /// It may end the sessions of everybody who is no superuser, Latchkey's too, and so hold up its own closing.
    EndsSessions,
    /// Who may assume which role of AWS, and under which source identity.
    MayAssume {
        /// The ARN of the user or role that gets the policy.
        grantee: String,
        /// The role's ARN.
        role_arn: String,
        /// The policy's name, which is the source identity.
        policy_name: String,
    },
    /// Sessions of the role that live at the end go on until they expire.
    SessionsRunOut {
        /// At most so long, in seconds.
        seconds: i64,
    },
    /// It can log in already, and no window of ours is why.
    OpenedOutsideWindows,
    /// It may connect to the database that Latchkey itself logs in to.
    ReachesLatchkey,
}

impl Finding {
    /// Whether an approver must not overlook it.
    #[must_use]
    pub fn is_grave(&self) -> bool {
        match self {
            Self::MemberOf { roles } => roles
                .iter()
                .any(|role| POWERFUL_ROLES.contains(&role.as_str())),
            Self::ActedAsBy { .. }
            | Self::CreateRole
            | Self::Replication
            | Self::EndsSessions
            | Self::SessionsRunOut { .. }
            | Self::OpenedOutsideWindows
            | Self::ReachesLatchkey => true,
            Self::CreateDatabase | Self::BypassRowSecurity | Self::MayAssume { .. } => false,
        }
    }
}

/// What of `seen` is grave and was not `told`: who decided did not decide about it.
#[must_use]
pub fn untold(told: &[Finding], seen: &[Finding]) -> Vec<Finding> {
    let roles_told = |of_same_kind: fn(&Finding) -> Option<&Vec<String>>| -> Vec<&String> {
        told.iter().filter_map(of_same_kind).flatten().collect()
    };
    let new_roles = |roles: &[String], told: &[&String]| -> Vec<String> {
        let new = roles.iter().filter(|role| !told.contains(role));
        new.cloned().collect()
    };
    let untold = seen.iter().filter_map(|finding| match finding {
        Finding::MemberOf { roles } => {
            let told = roles_told(|finding| match finding {
                Finding::MemberOf { roles } => Some(roles),
                _ => None,
            });
            Some(Finding::MemberOf {
                roles: new_roles(roles, &told),
            })
        }
        Finding::ActedAsBy { roles } => {
            let told = roles_told(|finding| match finding {
                Finding::ActedAsBy { roles } => Some(roles),
                _ => None,
            });
            let roles = new_roles(roles, &told);
            (!roles.is_empty()).then_some(Finding::ActedAsBy { roles })
        }
        other => (!told.contains(other)).then(|| other.clone()),
    });
    untold.filter(Finding::is_grave).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_could_take_over_the_cluster_is_grave() {
        let member_of = |role: &str| Finding::MemberOf {
            roles: vec!["app_owner".to_owned(), role.to_owned()],
        };
        assert!(member_of("rds_superuser").is_grave());
        assert!(!member_of("pg_monitor").is_grave());
        assert!(Finding::CreateRole.is_grave());
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    fn acted_as_by(roles: &[&str]) -> Finding {
        Finding::ActedAsBy {
            roles: names(roles),
        }
    }

    fn member_of(roles: &[&str]) -> Finding {
        Finding::MemberOf {
            roles: names(roles),
        }
    }

    #[test]
    fn only_roles_that_nobody_was_told_of_are_untold() {
        let told = [member_of(&["eve"]), acted_as_by(&["deploy", "master"])];
        assert_eq!(untold(&told, &[acted_as_by(&["master"])]), []);
        let seen = acted_as_by(&["deploy", "eve"]);
        assert_eq!(untold(&told, &[seen]), [acted_as_by(&["eve"])]);
        let seen = [acted_as_by(&["eve"])];
        assert_eq!(untold(&[], &seen), seen);
        let powerful = [member_of(&["eve", "rds_superuser"])];
        assert_eq!(untold(&told, &powerful), [member_of(&["rds_superuser"])]);
        assert_eq!(untold(&powerful, &powerful), []);
    }

    #[test]
    fn of_the_rest_only_what_is_grave_and_new_is_untold() {
        let grave = [
            Finding::CreateRole,
            Finding::Replication,
            Finding::EndsSessions,
            Finding::OpenedOutsideWindows,
            Finding::ReachesLatchkey,
        ];
        assert_eq!(untold(&[], &grave), grave);
        assert_eq!(untold(&grave, &grave), []);
        assert_eq!(untold(&grave, &[]), [], "less is no change for the worse");
        let not_grave = [
            Finding::CreateDatabase,
            Finding::BypassRowSecurity,
            member_of(&["pg_monitor"]),
        ];
        assert_eq!(untold(&[], &not_grave), []);
    }

    #[test]
    fn what_was_stored_is_read() {
        let stored = r#"[{"kind":"member_of","roles":["rds_superuser"]},{"kind":"create_role"},{"kind":"ends_sessions"}]"#;
        let read: Vec<Finding> = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
    }
}
