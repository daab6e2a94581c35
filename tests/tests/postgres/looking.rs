//! What reconcile does every few minutes: it looks at each role, and ends what hid when the role was closed.

use access_postgres::{Obstacle, look, sweep_hidden};
use chrono::TimeDelta;
use xtask::postgres::APPLICATION_DATABASE;

use super::fixture::*;

#[tokio::test]
async fn a_session_that_comes_out_of_hiding_after_the_proof_is_ended_by_a_later_look() {
    // On servers of its own, because the sweeps of other tests would end the hidden one too.
    for major in majors() {
        let server = &start(*major).await;
        let role = server.accounts().target.clone();
        open(server, &role).await;
        let options = "-c post_auth_delay=10";
        let hiding = server.log_in_with_options(&role, APPLICATION_DATABASE, options);
        let looking = async {
            let connections = [closer(server).await];
            // Others start too, and are done in milliseconds.
            until_one_hides(&connections[0], &role.user).await;
            // As if the closing had not seen it: LOGIN is taken, and nothing is swept.
            assert!(connections[0].close_login(&role.user).await.unwrap());
            let seen = look(&connections, &role.user).await.unwrap();
            assert!(!seen.can_login && seen.n_sessions == 0 && seen.was_closed);
            assert!(seen.n_starting > 0);
            sweep_hidden(&connections, &role.user).await.unwrap()
        };
        let (hidden, n_ended) = tokio::join!(hiding, looking);
        assert_eq!(n_ended, 1);
        if let Ok(session) = hidden {
            assert!(!is_alive(&session).await);
        }
        assert_eq!(n_sessions(server, &role).await, 0);
    }
}

#[tokio::test]
async fn a_later_look_touches_no_role_that_is_open() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let session = session(server, &role).await;
        let connections = [closer(server).await];
        assert_eq!(sweep_hidden(&connections, &role.user).await.unwrap(), 0);
        assert!(is_alive(&session).await);
        let seen = look(&connections, &role.user).await.unwrap();
        assert!(seen.can_login && seen.n_sessions == 1 && !seen.was_closed);
        close(server, &role).await.unwrap();
        assert!(look(&connections, &role.user).await.unwrap().was_closed);
    })
    .await;
}

#[tokio::test]
async fn a_registered_role_that_is_another_one_now_is_told_apart() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let connections = [closer(server).await];
        let seen = look(&connections, &role.user).await.unwrap();
        assert_eq!(
            (seen.identity.as_slice(), seen.name_taken),
            (&[][..], false)
        );
        open(server, &role).await;

        let renamed = format!("{}_renamed", role.user);
        let rename =
            |from: &str, to: &str| format!("ALTER ROLE {} RENAME TO {}", quoted(from), quoted(to));
        run_as_master(server, &rename(&role.user, &renamed)).await;
        let seen = look(&connections, &role.user).await.unwrap();
        assert_eq!(
            seen.identity,
            [Obstacle::Renamed {
                now: renamed.clone()
            }]
        );
        // It is looked after all the same, under whichever name, and its end can be moved back.
        assert!(seen.can_login);
        let opener = opener(server).await;
        let later = in_one_hour() + TimeDelta::hours(1);
        assert!(opener.extend(&role.user, later).await.is_err());
        let sooner = in_one_hour() - TimeDelta::minutes(30);
        connections[0].narrow(&role.user, sooner).await.unwrap();
        close(server, &role).await.unwrap();
        assert!(!look(&connections, &role.user).await.unwrap().can_login);

        run_as_master(server, &format!("DROP ROLE {}", quoted(&renamed))).await;
        let seen = look(&connections, &role.user).await.unwrap();
        assert_eq!(
            (seen.identity.as_slice(), seen.name_taken),
            (&[Obstacle::Dropped][..], false)
        );
        let successor = new_unregistered_role(server, &role.user).await;
        let seen = look(&connections, &role.user).await.unwrap();
        assert_eq!(
            (seen.identity.as_slice(), seen.name_taken),
            (&[Obstacle::Dropped][..], true)
        );
        assert!(!seen.can_login && seen.n_sessions == 0);
        for result in [
            connections[0].narrow(&successor.user, in_one_hour()).await,
            connections[0].sweep(&successor.user).await.map(drop),
            connections[0].close_login(&successor.user).await.map(drop),
        ] {
            result.unwrap();
        }
        assert!(opener.extend(&successor.user, in_one_hour()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_opening_by_hand_stays_on_the_list_until_somebody_closes_it() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        master(server)
            .await
            .query_one(
                "SELECT latchkey.open_by_hand($1, clock_timestamp() + interval '3 seconds', 'outage')",
                &[&role.user],
            )
            .await
            .unwrap();
        let closer = closer(server).await;
        eventually("it is over", async || {
            !can_log_in(server, &role).await
        })
        .await;
        assert!(closer.role_state(&role.user).await.unwrap().can_login);
        let openings = closer.openings_by_hand(&role.user).await.unwrap();
        assert_eq!(openings.len(), 1, "nobody has looked after it yet");
        close(server, &role).await.unwrap();
        assert_eq!(closer.openings_by_hand(&role.user).await.unwrap(), []);
    })
    .await;
}
