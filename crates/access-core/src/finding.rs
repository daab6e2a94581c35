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
            | Self::SessionsRunOut { .. } => true,
            Self::CreateDatabase | Self::BypassRowSecurity | Self::MayAssume { .. } => false,
        }
    }
}

/// Those of `members` that are not among the roles of which `told` says that they can act as the role.
#[must_use]
pub fn untold_members<'a>(told: &[Finding], members: &'a [String]) -> Vec<&'a str> {
    let is_told = |member: &String| {
        told.iter().any(|finding| match finding {
            Finding::ActedAsBy { roles } => roles.contains(member),
            _ => false,
        })
    };
    let untold = members.iter().filter(|member| !is_told(member));
    untold.map(String::as_str).collect()
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

    #[test]
    fn only_members_that_nobody_was_told_of_are_new() {
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let told = [
            Finding::MemberOf {
                roles: names(&["eve"]),
            },
            Finding::ActedAsBy {
                roles: names(&["deploy", "master"]),
            },
        ];
        assert_eq!(
            untold_members(&told, &names(&["master"])),
            Vec::<&str>::new()
        );
        assert_eq!(untold_members(&told, &names(&["deploy", "eve"])), ["eve"]);
        assert_eq!(untold_members(&[], &names(&["eve"])), ["eve"]);
    }

    #[test]
    fn what_was_stored_is_read() {
        let stored = r#"[{"kind":"member_of","roles":["rds_superuser"]},{"kind":"create_role"},{"kind":"ends_sessions"}]"#;
        let read: Vec<Finding> = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
    }
}
