//! Converge without the right to open: the end of a window, proved.

use std::time::Duration;

use access_aws::table::{Closing, FactsTaken, StoredRequest, Table};
use access_aws::window_secret::WindowSecrets;
use access_contract::payload::{Answer, DisableLogin, Outcome, PlaceName};
use access_contract::{ErrorName, Status};
use access_core::converge::carry_out::{self, Closing as Closed};
use access_core::{Database, LeftBehind, RequestId, time};
use access_postgres::{ProofOfClosing, SystemIdentifier};
use chrono::{DateTime, Utc};
use database_shell::{Reach, RoleToClose, WindowsInTable};
use lambda_shell::{Failure, Invocation, Unit};
use serde_json::Value;
use tokio::time::timeout;
use window_shell::ToClose;

/// How long one call tries to prove the closing. The state machine calls again and again; the
/// function's time limit in `template.yaml` leaves room around this.
const PROOF_DEADLINE: Duration = Duration::from_secs(40);

/// How long looking for what the window left behind may delay the message; the role is closed by then.
const FACTS_LIMIT: Duration = Duration::from_secs(10);

/// How long asking after the password may delay it besides.
const PASSWORD_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Handler {
    pub(crate) table: Table,
    pub(crate) deployment: String,
    pub(crate) window_secrets: WindowSecrets,
    pub(crate) reach: Reach,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let (id, outcome) = match lambda_shell::read(invocation.payload)? {
            DisableLogin::Close(step) => {
                let outcome = self.close(&step.request_id).await?;
                (step.request_id, outcome)
            }
            DisableLogin::EndEarly(step) => {
                let by = "the state machine: it could not be opened";
                window_shell::end_early(&self.table, &step.request_id, by, (self.now)())
                    .await
                    .map_err(aws)?;
                let outcome = self.close(&step.request_id).await?;
                (step.request_id, window_shell::nothing_if_cancelled(outcome))
            }
            DisableLogin::ExecutionEnded {
                execution_arn,
                started_at_millis,
                status,
                ..
            } => {
                let id = RequestId::of_execution(&execution_arn, started_at_millis);
                let is_ended =
                    window_shell::end_with_execution(&self.table, &id, &status, (self.now)())
                        .await
                        .map_err(aws)?;
                let outcome = if is_ended {
                    window_shell::nothing_if_cancelled(self.close(&id).await?)
                } else {
                    Outcome::NothingToClose
                };
                (id, outcome)
            }
        };
        lambda_shell::write(&Answer {
            request_id: Some(id),
            ..Answer::from(outcome)
        })
    }

    /// Closes the role if this window is over and no other one covers now.
    async fn close(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let invoked_at = (self.now)();
        let stored = match window_shell::to_close(&self.table, id).await.map_err(aws)? {
            ToClose::Window(stored) => stored,
            ToClose::Answer(outcome) => return Ok(outcome),
        };
        let Some(at) = stored.request.place.database() else {
            return Ok(Outcome::Elsewhere {
                place: PlaceName::of(&stored.request.place),
            });
        };
        let request = &stored.request;
        let list = WindowsInTable::new(
            &self.table,
            &request.target,
            &request.role,
            id.as_str(),
            self.now,
        );
        let role = RoleToClose {
            reach: &self.reach,
            database: at,
            login: &at.closer,
            role: &request.role,
            // Where the role was opened, whatever the catalogue says by now.
            system_identifier: pinned_server(&stored)?,
            role_oid: stored.server.as_ref().map(|pin| pin.role_oid),
            deadline: PROOF_DEADLINE,
            now: self.now,
        };
        let closed = carry_out::close(&list, &role, Some(id))
            .await
            .map_err(database)?;
        let closing = match closed {
            Closed::NotYet { end } => {
                return Ok(Outcome::NotYet {
                    wait_until: time::to_wait_timestamp(end),
                });
            }
            Closed::StillOpen { until } => {
                tracing::info!(request_id = %id, open_until = %until, "window ended under another one");
                Closing {
                    at: (self.now)(),
                    n_sessions_ended: 0,
                    invoked_at: None,
                    connected_at: None,
                    login_refused_at: None,
                    sessions_gone_at: None,
                    open_until: Some(until),
                    left_behind: Vec::new(),
                    n_grave: 0,
                }
            }
            Closed::Proved(proof) => proved(id, &proof, invoked_at),
        };
        let mut left_behind = self.left_behind(&stored, at).await;
        if closing.open_until.is_none() && !stored.request.credential.is_existing() {
            let kept = timeout(PASSWORD_LIMIT, self.password_kept(&stored, at)).await;
            left_behind.lines.extend(kept.ok().flatten());
        }
        let closing = Closing {
            // A window that covers by now may have opened the role again: then nobody is told that it is closed.
            open_until: carry_out::covered_until(&list)
                .await
                .map_err(database)?
                .or(closing.open_until),
            left_behind: left_behind.lines,
            n_grave: left_behind.n_grave,
            ..closing
        };
        self.record(&stored, &closing).await
    }

    async fn record(&self, stored: &StoredRequest, closing: &Closing) -> Result<Outcome, Failure> {
        let status = match closing.open_until {
            Some(_) => Status::Ended,
            None => Status::Closed,
        };
        self.table
            .record_closing(&stored.request, Status::Open, status, closing)
            .await
            .map_err(aws)?;
        self.forget_password(stored).await;
        Ok(window_shell::outcome(closing))
    }

    /// What differs from before the window. That it cannot be found out is an answer too, and never a failure: the
    /// role is closed whatever comes of this.
    async fn left_behind(&self, stored: &StoredRequest, at: &Database) -> LeftBehind {
        let id = &stored.request.request_id;
        let left_behind = match timeout(FACTS_LIMIT, self.compare(stored, at)).await {
            Ok(Ok(left_behind)) => left_behind,
            Ok(Err(error)) => {
                tracing::error!(request_id = %id, "not compared with before the window: {error}");
                LeftBehind::not_compared("it failed; the log of disable-login says why")
            }
            Err(_) => LeftBehind::not_compared("it took too long"),
        };
        self.report(id, &left_behind);
        left_behind
    }

    async fn compare(
        &self,
        stored: &StoredRequest,
        at: &Database,
    ) -> Result<LeftBehind, database_shell::Error> {
        let request = &stored.request;
        let id = &request.request_id;
        let Some(before) = self.table.facts(id, FactsTaken::Before).await? else {
            return Ok(LeftBehind::not_compared("facts before were not taken"));
        };
        let taken_at = (self.now)();
        let located = self.reach.locate(at, &at.closer).await?;
        let after = located.facts(FACTS_LIMIT / 2).await?;
        let keeping = self
            .table
            .keep_facts(id, FactsTaken::After, &after, taken_at);
        if !matches!(timeout(FACTS_LIMIT / 5, keeping).await, Ok(Ok(()))) {
            tracing::warn!(request_id = %id, "facts after were not kept; the differences are");
        }
        Ok(LeftBehind::between(&before, &after))
    }

    /// That the window's password could not be taken away, if so. Nobody can log in with it, since LOGIN is gone, and the
    /// next window sets another one; but the database's owner should know.
    async fn password_kept(&self, stored: &StoredRequest, at: &Database) -> Option<String> {
        let request = &stored.request;
        let looked = async {
            let located = self.reach.locate(at, &at.closer).await?;
            let connection = located.connect().await?;
            let standing = connection.standing_password(request.role.as_str()).await?;
            connection.end().await;
            Ok::<_, database_shell::Error>(standing)
        };
        match looked.await {
            Ok(standing) => standing.kept_because.map(|sqlstate| {
                tracing::error!(request_id = %request.request_id, sqlstate, "the window's password was not taken away");
                format!("+ the window's password: PASSWORD NULL was refused with SQLSTATE {sqlstate}")
            }),
            Err(error) => {
                tracing::warn!(request_id = %request.request_id, "not known whether the password is gone: {error}");
                None
            }
        }
    }

    /// Deletes the secret with the window's password. What fails here reconcile does later: the role is closed.
    async fn forget_password(&self, stored: &StoredRequest) {
        let request = &stored.request;
        if request.credential.is_existing() {
            return;
        }
        if let Err(error) = self.window_secrets.delete(&request.request_id).await {
            tracing::error!(request_id = %request.request_id, "the window's secret was not deleted: {error}");
        }
    }

    fn report(&self, id: &RequestId, left_behind: &LeftBehind) {
        let n_grave = left_behind.n_grave;
        if n_grave > 0 {
            tracing::error!(request_id = %id, n_grave, left_behind = ?left_behind.lines, "the window left something grave behind");
        } else {
            tracing::info!(request_id = %id, left_behind = ?left_behind.lines, "compared with before the window");
        }
        let n_grave = f64::from(u32::try_from(n_grave).unwrap_or(u32::MAX));
        lambda_shell::metrics(
            &self.deployment,
            &[("GraveDifferences", Unit::Count, n_grave)],
            (self.now)().timestamp_millis(),
        );
    }
}

/// Where the window was opened; `None` if its request was never checked.
fn pinned_server(stored: &StoredRequest) -> Result<Option<SystemIdentifier>, Failure> {
    let pinned = stored
        .server
        .as_ref()
        .map(|pin| pin.system_identifier.parse());
    pinned.transpose().map_err(|_| {
        Failure::new(
            ErrorName::Internal,
            "the request has a damaged system identifier",
        )
    })
}

/// What is kept of a proof.
fn proved(id: &RequestId, proof: &ProofOfClosing, invoked_at: DateTime<Utc>) -> Closing {
    tracing::info!(
        request_id = %id,
        %invoked_at,
        connected_at = %proof.connected_at,
        login_refused_at = %proof.login_refused_at,
        sessions_gone_at = %proof.sessions_gone_at,
        proved_at = %proof.proved_at,
        n_sessions_ended = proof.n_sessions_ended,
        "role proved closed"
    );
    Closing {
        at: proof.proved_at,
        n_sessions_ended: u64::try_from(proof.n_sessions_ended).unwrap_or(u64::MAX),
        invoked_at: Some(invoked_at),
        connected_at: Some(proof.connected_at),
        login_refused_at: Some(proof.login_refused_at),
        sessions_gone_at: Some(proof.sessions_gone_at),
        open_until: None,
        left_behind: Vec::new(),
        n_grave: 0,
    }
}

fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}

fn database(error: database_shell::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
