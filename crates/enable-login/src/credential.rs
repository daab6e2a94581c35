//! The password with which a window is opened: in its requester's secret first, and in the database afterwards.
//!
//! A role has one password at a time. A window that opens alone gets a new one. A window that opens while the role is
//! open gets the password that stands, in a secret of its own, so that nobody who has access loses it; that password
//! ends with the last of these windows.

use access_aws::secret::DatabasePassword;
use access_aws::table::StoredRequest;
use access_aws::window_secret::WindowSecretMaker;
use access_contract::ErrorName;
use access_core::WindowRow;
use access_core::catalogue::HostPort;
use access_postgres::{Connection, Fingerprint, WindowPassword};
use lambda_shell::Failure;

use crate::handler::{aws, postgres};

/// What a window's secret holds now.
pub(crate) enum HandedOver {
    /// This password, which is to be set, or stands already.
    Password(WindowPassword),
    /// Nothing: the role can log in with a password that no window of ours has.
    AnotherPasswordStands,
}

/// The version of the secret that the first password makes; the ones after it are called by their fingerprints.
const FIRST: &str = "first password";

/// Puts the right password into the secret of this window, and answers what is there then: of two calls at once, both
/// answer the same. `can_login` is what the role was just seen to be, and `rows` are its windows.
pub(crate) async fn hand_over(
    secrets: &WindowSecretMaker,
    stored: &StoredRequest,
    rows: &[WindowRow],
    can_login: bool,
    server: &HostPort,
    connection: &Connection,
) -> Result<HandedOver, Failure> {
    let request = &stored.request;
    let id = &request.request_id;
    secrets
        .prepare(id, &request.requester_principals)
        .await
        .map_err(aws)?;
    let own = secrets.read(id).await.map_err(aws)?.map(password);
    let (version, chosen) = if can_login {
        let Some(standing) = standing(connection, request.role.as_str()).await? else {
            return Ok(HandedOver::AnotherPasswordStands);
        };
        if let Some(own) = own
            && own.fingerprint() == standing
        {
            return Ok(HandedOver::Password(own));
        }
        let Some(shared) = find(secrets, rows, &standing).await? else {
            return Ok(HandedOver::AnotherPasswordStands);
        };
        (standing.as_str().to_owned(), shared)
    } else if let Some(own) = own {
        return Ok(HandedOver::Password(own));
    } else {
        let new = WindowPassword::random().map_err(|error| {
            Failure::new(ErrorName::Internal, format!("make a password: {error}"))
        })?;
        (FIRST.to_owned(), new)
    };
    let text = DatabasePassword::new(chosen.expose().to_owned());
    secrets
        .write(id, &version, server, &request.role, &text)
        .await
        .map_err(aws)?;
    match secrets.read(id).await.map_err(aws)? {
        Some(kept) => Ok(HandedOver::Password(password(kept))),
        None => Err(Failure::new(
            ErrorName::SecretUnavailable,
            format!("the password of request {id} was kept, and is not there"),
        )),
    }
}

/// Which password of ours the database has.
pub(crate) async fn standing(
    connection: &Connection,
    role: &str,
) -> Result<Option<Fingerprint>, Failure> {
    let standing = connection.standing_password(role).await;
    Ok(standing.map_err(postgres)?.fingerprint)
}

/// The password that stands, from the secret of any of the role's windows.
async fn find(
    secrets: &WindowSecretMaker,
    rows: &[WindowRow],
    standing: &Fingerprint,
) -> Result<Option<WindowPassword>, Failure> {
    for row in rows.iter().filter(|row| !row.by_hand) {
        let kept = secrets.read(&row.request_id).await.map_err(aws)?;
        if let Some(kept) = kept.map(password)
            && kept.fingerprint() == *standing
        {
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

fn password(kept: DatabasePassword) -> WindowPassword {
    WindowPassword::from_text(kept.expose().to_owned())
}
