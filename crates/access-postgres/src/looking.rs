//! Looking at a role on all servers of a database, and ending what hides there after a closing.
//!
//! A proof cannot see a session that `post_auth_delay` keeps in its start, if it was not there to be seen yet: such a
//! session may come up to 2,147 s (36 minutes) after its login was let in. So whoever looks after the roles, every few
//! minutes and for ever, ends those too.
//!
//! See <https://www.postgresql.org/docs/current/runtime-config-developer.html#GUC-POST-AUTH-DELAY>.

use chrono::DateTime;

use crate::{Connection, Error, Obstacle, RoleState, ValidUntil};

/// What all servers of a database together say about a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSeen {
    /// Whether it can log in anywhere.
    pub can_login: bool,
    /// Its sessions everywhere.
    pub n_sessions: u64,
    /// Backends still starting everywhere, of whichever role.
    pub n_starting: u64,
    /// Whether Latchkey has closed it before: closing leaves an end in 1970.
    pub was_closed: bool,
    /// What became of the registered role, if it is not what was registered any more.
    pub identity: Vec<Obstacle>,
    /// Whether its registered name belongs to another role now, which nobody looks after.
    pub name_taken: bool,
}

/// Looks at `role` over `connections`, the one to the writer first.
///
/// # Errors
///
/// As [`Connection::role_state`].
pub async fn look(connections: &[Connection], role: &str) -> Result<RoleSeen, Error> {
    let mut states = Vec::new();
    for connection in connections {
        states.push(connection.role_state(role).await?);
    }
    let of_writer = states.first();
    let identity = of_writer.map_or_else(Vec::new, |state| {
        let mut obstacles = state.obstacles(role);
        obstacles
            .retain(|obstacle| matches!(obstacle, Obstacle::Dropped | Obstacle::Renamed { .. }));
        obstacles
    });
    Ok(RoleSeen {
        can_login: states.iter().any(|state| state.can_login),
        n_sessions: states.iter().map(|state| state.n_sessions).sum(),
        n_starting: states.iter().map(|state| state.n_starting).sum(),
        was_closed: of_writer.is_some_and(was_closed),
        identity,
        name_taken: of_writer.is_some_and(|state| state.name_taken),
    })
}

fn was_closed(state: &RoleState) -> bool {
    state.valid_until == ValidUntil::At(DateTime::UNIX_EPOCH)
}

/// Ends the sessions of a closed role that hide in their start, on every server, and says how many. Touches nothing
/// where the role can log in by now.
///
/// # Errors
///
/// As [`Connection::sweep_if_closed`], but for [`Error::StillOpen`].
pub async fn sweep_hidden(connections: &[Connection], role: &str) -> Result<usize, Error> {
    let mut n_ended = 0;
    for connection in connections {
        match connection.sweep_if_closed(role).await {
            Ok(swept) => n_ended += swept.ended_pids.len(),
            Err(Error::StillOpen { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n_ended)
}
