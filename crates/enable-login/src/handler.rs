//! Preflight, and converge with the right to open.

use access_aws::schedule::EndSchedules;
use access_aws::table::{FactsTaken, ServerPin, StoredRequest};
use access_aws::window_secret::WindowSecretMaker;
use access_contract::dry_run::{DryRun, Resolved};
use access_contract::payload::{Answer, EnableLogin, Outcome};
use access_contract::{ErrorName, Status};
use access_core::converge::carry_out::{self, Opening};
use access_core::{
    Database, Fault, FaultName, Finding, Grant, Request, RequestId, Window, WindowSpec, finding,
    time,
};
use access_postgres::{Connection, RolePowers, RoleState, SystemIdentifier, WindowPassword};
use chrono::{DateTime, Duration, Utc};
use database_shell::{Located, Reach, RoleToClose, RoleToOpen, WindowsInTable, login_seen};
use lambda_shell::{Failure, Invocation};
use serde_json::Value;
use window_shell::{Admission, Admitted, ToOpen, over};

use crate::credential::{self, HandedOver};
use crate::membership;
use crate::plan;

/// How long what was given is tried to be taken back, if it must not stand. Others go on after that.
const TAKE_BACK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// When to look again whether a closing that goes on is done.
const BETWEEN_LOOKS: Duration = Duration::seconds(2);

/// How long taking the facts may delay an opening.
const FACTS_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

pub(crate) struct Handler {
    pub(crate) admission: Admission,
    pub(crate) end_schedules: EndSchedules,
    pub(crate) window_secrets: WindowSecretMaker,
    pub(crate) reach: Reach,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let outcome = match lambda_shell::read(invocation.payload)? {
            EnableLogin::Preflight(step) => self.preflight(&step.request_id).await?,
            EnableLogin::Open(step) => self.open(&step.request_id).await?,
            EnableLogin::DryRun(step) => self.dry_run(&step.request_id).await?,
        };
        lambda_shell::write(&Answer::from(outcome))
    }

    /// Could this request be opened? Changes nothing in the database.
    async fn preflight(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.admission.table.request(id).await.map_err(aws)?;
        let checked = self.check(&stored.request).await?;
        let Some((pin, findings)) = checked.seen.filter(|_| checked.faults.is_empty()) else {
            return self.refuse(id, checked.faults).await;
        };
        self.admission
            .table
            .pin_server(id, &pin, &findings)
            .await
            .map_err(aws)?;
        Ok(Outcome::Ready {
            break_glass: stored.request.break_glass.is_some(),
        })
    }

    /// What preflight would say of a dry run, and what would be done. No step takes its row for a request.
    async fn dry_run(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let request = self.admission.table.dry_run(id).await.map_err(aws)?;
        let at = database_of(&request)?;
        let checked = self.check(&request).await?;
        let windows = self
            .admission
            .table
            .windows(&request.target, &request.role)
            .await
            .map_err(aws)?;
        let window = request.window.approved_at((self.now)());
        tracing::info!(dry_run = %id, n_faults = checked.faults.len(), "dry run answered");
        Ok(Outcome::DryRun(Box::new(DryRun {
            plan: plan::of(&request, at, window, windows.rows),
            request: Resolved::from(&request),
            window_if_approved_now: window,
            faults: checked.faults,
            findings: checked
                .seen
                .map(|(_, findings)| findings)
                .unwrap_or_default(),
        })))
    }

    /// Everything that stands in the way of opening `request`, and what its approvers should know.
    async fn check(&self, request: &Request) -> Result<Checked, Failure> {
        let at = database_of(request)?;
        let located = self.reach.locate(at, &at.opener).await.map_err(database)?;
        let connection = located.connect().await.map_err(database)?;
        let server = connection.server().await.map_err(postgres)?;
        let state = match connection.role_state(request.role.as_str()).await {
            Ok(state) => state,
            Err(error) => {
                let faults = vec![fault_or_failure(error)?];
                return Ok(Checked { faults, seen: None });
            }
        };
        let mut faults = preflight_faults(request, &state);
        faults.extend(readers_fault(located.not_listed()));
        let mut user_oid = None;
        if let Some(asked) = request.grant.membership()
            && state.is_membership()
        {
            let found = membership::look(&connection, &request.role, asked).await?;
            user_oid = Some(found.user_oid);
            faults.extend(found.faults);
        } else if !request.credential.is_existing() && !state.is_membership() {
            faults.extend(credential_fault(request, &state, &connection).await?);
        }
        // Whoever asks for as soon as it is approved means now.
        if let Some(window) = request.window.approved_at((self.now)())
            && let Some(in_use) = self
                .admission
                .in_use(request, window)
                .await
                .map_err(admission)?
        {
            faults.push(in_use.fault());
        }
        // A role that is gone has no powers.
        let powers = match connection.role_powers(state.oid).await {
            Ok(powers) => powers,
            Err(_) if !faults.is_empty() => return Ok(Checked { faults, seen: None }),
            Err(error) => return Err(postgres(error)),
        };
        connection.end().await;
        let pin = ServerPin {
            system_identifier: server.system_identifier.to_string(),
            role_oid: state.oid,
            user_oid,
        };
        let seen = Some((pin, findings(state, powers)));
        Ok(Checked { faults, seen })
    }

    /// Opens the role for its window, if people approved it and the window covers now.
    async fn open(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let to_open = match self.admission.admit(id, Duration::zero()).await {
            Ok(Admitted::Open(to_open)) => to_open,
            Ok(Admitted::Answer(outcome)) => return Ok(outcome),
            Err(error) => return Err(admission(error)),
        };
        let ToOpen {
            stored,
            stricter,
            window,
        } = *to_open;
        let at = database_of(&stored.request)?;
        let located = self.reach.locate(at, &at.opener).await.map_err(database)?;
        let connection = located.connect().await.map_err(database)?;
        let pinned = pinned_server(&stored)?;
        connection
            .expect_server(Some(pinned))
            .await
            .map_err(postgres)?;
        let seen = match connection.role_state(stored.request.role.as_str()).await {
            Ok(state) => state,
            Err(error) => return self.refuse_or_fail(id, error).await,
        };
        let mut faults = opening_faults(&stored, &seen);
        faults.extend(readers_fault(located.not_listed()));
        if let Some(asked) = stored.request.grant.membership()
            && seen.is_membership()
        {
            let found = membership::look(&connection, &stored.request.role, asked).await?;
            if stored
                .server
                .as_ref()
                .is_some_and(|pin| pin.user_oid != Some(found.user_oid))
            {
                faults.push(registered_anew());
            }
            faults.extend(found.faults);
        }
        if !faults.is_empty() {
            return self.refuse(id, faults).await;
        }
        if stored.status == Status::Approved
            && let Some(refused) = self
                .admission
                .arm(&stricter, window)
                .await
                .map_err(admission)?
        {
            return Ok(refused);
        }
        self.end_schedules
            .arm(&stored.request, window.end())
            .await
            .map_err(aws)?;
        self.keep_facts_before(&stored, &located).await;
        let password = if stored.request.credential.is_existing() {
            None
        } else {
            match self.hand_over(&stored, &located, &connection).await? {
                HandedOver::Password(password) => Some(password),
                HandedOver::AnotherPasswordStands => {
                    return self.refuse(id, vec![open_outside_windows()]).await;
                }
            }
        };
        let outcome = self
            .converge(
                &stored,
                window,
                pinned,
                &connection,
                &seen,
                password.as_ref(),
            )
            .await?;
        // Another window may have opened the role in between: then its password is this one's too, next time.
        let outcome = match (outcome, &password) {
            (Outcome::Opened { .. }, Some(password))
                if credential::standing(&connection, stored.request.role.as_str()).await?
                    != Some(password.fingerprint()) =>
            {
                self.look_again()
            }
            (outcome, _) => outcome,
        };
        connection.end().await;
        Ok(outcome)
    }

    /// Takes the facts with which those after the window will be compared. Without them the closing says so, but the
    /// role is opened all the same: whoever waits for it has an outage.
    async fn keep_facts_before(&self, stored: &StoredRequest, located: &Located<'_>) {
        let id = &stored.request.request_id;
        let kept =
            tokio::time::timeout(FACTS_LIMIT, self.try_to_keep_facts_before(stored, located));
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(request_id = %id, "facts before were not taken: {error}")
            }
            Err(_) => tracing::error!(request_id = %id, "facts before were not taken in time"),
        }
    }

    async fn try_to_keep_facts_before(
        &self,
        stored: &StoredRequest,
        located: &Located<'_>,
    ) -> Result<(), database_shell::Error> {
        let request = &stored.request;
        let id = &request.request_id;
        if self
            .admission
            .table
            .has_facts(id, FactsTaken::Before)
            .await?
        {
            return Ok(());
        }
        let windows = self
            .admission
            .table
            .windows(&request.target, &request.role)
            .await?;
        if windows
            .rows
            .iter()
            .any(|row| row.request_id == *id && row.opened_at.is_some())
        {
            tracing::warn!(request_id = %id, "the window is open already: too late for facts before");
            return Ok(());
        }
        let taken_at = (self.now)();
        // Leaves time to write them.
        let facts = located.facts(FACTS_LIMIT * 4 / 5).await?;
        self.admission
            .table
            .keep_facts(id, FactsTaken::Before, &facts, taken_at)
            .await?;
        Ok(())
    }

    /// Puts the window's password where its requester finds it.
    async fn hand_over(
        &self,
        stored: &StoredRequest,
        located: &Located<'_>,
        connection: &Connection,
    ) -> Result<HandedOver, Failure> {
        let request = &stored.request;
        let windows = self
            .admission
            .table
            .windows(&request.target, &request.role)
            .await
            .map_err(aws)?;
        let state = connection
            .role_state(request.role.as_str())
            .await
            .map_err(postgres)?;
        credential::hand_over(
            &self.window_secrets,
            stored,
            &windows.rows,
            state.can_login,
            located.writer(),
            connection,
        )
        .await
    }

    fn look_again(&self) -> Outcome {
        Outcome::NotYet {
            wait_until: time::to_wait_timestamp(time::round_up((self.now)()) + BETWEEN_LOOKS),
        }
    }

    /// Makes the role what its windows say, and answers what came of it.
    async fn converge(
        &self,
        stored: &StoredRequest,
        window: Window,
        pinned: SystemIdentifier,
        connection: &Connection,
        seen: &RoleState,
        password: Option<&WindowPassword>,
    ) -> Result<Outcome, Failure> {
        let request = &stored.request;
        let at = database_of(request)?;
        let id = &request.request_id;
        let list = WindowsInTable::new(
            &self.admission.table,
            &request.target,
            &request.role,
            id.as_str(),
            self.now,
        );
        let role = RoleToOpen {
            to_close: RoleToClose {
                reach: &self.reach,
                database: at,
                login: &at.opener,
                role: &request.role,
                system_identifier: Some(pinned),
                role_oid: stored.server.as_ref().map(|pin| pin.role_oid),
                deadline: TAKE_BACK_DEADLINE,
                now: self.now,
            },
            grant: &request.grant,
            connection,
            password,
        };
        match carry_out::open(&list, &role, id, login_seen(seen)).await {
            Ok(Opening::Opened { until }) => {
                tracing::info!(request_id = %id, %until, "role opened");
                Ok(Outcome::Opened {
                    end: time::to_wait_timestamp(window.end()),
                })
            }
            Ok(Opening::NotYet) => Ok(self.look_again()),
            // As above: it was opened with the password of another window at the same moment.
            Err(database_shell::Error::Postgres(
                access_postgres::Error::AnotherPasswordStands { .. },
            )) => Ok(self.look_again()),
            Ok(Opening::Over) => self.refuse(id, vec![over()]).await,
            Ok(Opening::ClosedByHand) => {
                self.refuse(id, vec![closed_by_hand(&request.grant)]).await
            }
            Ok(Opening::Restless) => Err(Failure::new(
                ErrorName::Internal,
                format!(
                    "the windows of role {:?} changed all the time while it was being opened",
                    request.role.as_str()
                ),
            )),
            // The end passed while it waited for a lock.
            Err(database_shell::Error::Postgres(access_postgres::Error::WindowOutOfRange {
                ..
            })) if (self.now)() >= window.end() => self.refuse(id, vec![over()]).await,
            Err(database_shell::Error::Postgres(error)) => self.refuse_or_fail(id, error).await,
            Err(error) => Err(database(error)),
        }
    }

    /// What the database refuses for good becomes an answer to the requester; the rest is a failure.
    async fn refuse_or_fail(
        &self,
        id: &RequestId,
        error: access_postgres::Error,
    ) -> Result<Outcome, Failure> {
        let fault = fault_or_failure(error)?;
        self.refuse(id, vec![fault]).await
    }

    async fn refuse(&self, id: &RequestId, faults: Vec<Fault>) -> Result<Outcome, Failure> {
        self.admission.refuse(id, faults).await.map_err(admission)
    }
}

/// What preflight found.
struct Checked {
    /// Everything that stands in the way.
    faults: Vec<Fault>,
    /// The server and role, and what approvers should know; `None` where there is no such role.
    seen: Option<(ServerPin, Vec<Finding>)>,
}

/// What the database refuses for good, as a fault.
fn fault_or_failure(error: access_postgres::Error) -> Result<Fault, Failure> {
    use access_postgres::Error as Postgres;
    let name = match &error {
        Postgres::NotRegistered { .. } | Postgres::RoleChangedIdentity { .. } => {
            FaultName::RoleNotRegistered
        }
        Postgres::CouldUndoItsWindow { .. } => FaultName::RoleTooPowerful,
        Postgres::ClosedByHand { .. } => FaultName::ClosedByHand,
        Postgres::OwnsPreparedTransaction { .. } => FaultName::PreparedTransaction,
        Postgres::MemberAlready { .. } => FaultName::MemberAlready,
        Postgres::WindowOutOfRange { .. } => FaultName::WindowTooLongForDatabase,
        _ => return Err(postgres(error)),
    };
    Ok(Fault::new(name, "$.role", error.to_string()))
}

/// The database of a request; grant-policy opens what is at other places.
fn database_of(request: &Request) -> Result<&Database, Failure> {
    request.place.database().ok_or_else(|| {
        Failure::new(
            ErrorName::RequestConflict,
            format!("request {} is not about a database", request.request_id),
        )
    })
}

/// The server that preflight saw.
fn pinned_server(stored: &StoredRequest) -> Result<SystemIdentifier, Failure> {
    let id = &stored.request.request_id;
    let Some(pin) = &stored.server else {
        return Err(Failure::new(
            ErrorName::RequestConflict,
            format!("request {id} was never checked"),
        ));
    };
    pin.system_identifier.parse().map_err(|_| {
        Failure::new(
            ErrorName::Internal,
            format!("request {id} has a damaged system identifier"),
        )
    })
}

/// As preflight, and the role must be the one that preflight saw.
fn opening_faults(stored: &StoredRequest, state: &RoleState) -> Vec<Fault> {
    let mut faults = preflight_faults(&stored.request, state);
    if stored
        .server
        .as_ref()
        .is_some_and(|pin| pin.role_oid != state.oid)
    {
        faults.push(registered_anew());
    }
    // Who can act as it once it is open, is no reason to end it.
    if stored.status == Status::Approved
        && let Some(told) = &stored.findings
    {
        let untold = finding::untold_members(told, &state.members);
        if !untold.is_empty() {
            faults.push(Fault::new(
                FaultName::RoleChanged,
                "$.role",
                format!(
                    "ask again: since this was asked for, others can act as the role, which its approvers were not told: {}",
                    untold.join(", ")
                ),
            ));
        }
    }
    faults
}

fn registered_anew() -> Fault {
    Fault::new(
        FaultName::RoleNotRegistered,
        "$.role",
        "ask again: another role or user has been registered under this name since the request was made",
    )
}

/// What approvers should know about the role.
fn findings(state: RoleState, powers: RolePowers) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !powers.member_of.is_empty() {
        findings.push(Finding::MemberOf {
            roles: powers.member_of,
        });
    }
    if !state.members.is_empty() {
        findings.push(Finding::ActedAsBy {
            roles: state.members,
        });
    }
    let attributes = [
        (powers.create_role, Finding::CreateRole),
        (powers.create_database, Finding::CreateDatabase),
        (powers.replication, Finding::Replication),
        // Not refused, because rds_superuser has it.
        (powers.end_sessions, Finding::EndsSessions),
        (powers.bypass_row_security, Finding::BypassRowSecurity),
    ];
    findings.extend(
        attributes
            .into_iter()
            .filter_map(|(has_it, finding)| has_it.then_some(finding)),
    );
    findings
}

fn preflight_faults(request: &Request, state: &RoleState) -> Vec<Fault> {
    use access_postgres::Obstacle;
    let role = request.role.as_str();
    let mut faults: Vec<_> = state
        .obstacles(role)
        .into_iter()
        .map(|obstacle| {
            let name = match &obstacle {
                Obstacle::Dropped | Obstacle::Renamed { .. } | Obstacle::NotManageable => {
                    FaultName::RoleNotRegistered
                }
                Obstacle::CouldUndoItsWindow => FaultName::RoleTooPowerful,
                Obstacle::OwnsPreparedTransaction => FaultName::PreparedTransaction,
            };
            Fault::new(name, "$.role", obstacle.to_string())
        })
        .collect();
    if request.grant.is_login() == state.is_membership() {
        faults.push(Fault::new(
            FaultName::RoleNotRegistered,
            "$.role",
            "ask the platform team: the database has another kind of access under this name than the catalogue",
        ));
    }
    let longest = Duration::from_std(state.max_window).unwrap_or(Duration::MAX);
    if length(&request.window, request.requested_at) > longest {
        faults.push(Fault::new(
            FaultName::WindowTooLongForDatabase,
            "$",
            format!(
                "ask for at most {} seconds; the database allows no more for this role",
                longest.num_seconds()
            ),
        ));
    }
    faults
}

fn length(window: &WindowSpec, from: DateTime<Utc>) -> Duration {
    match *window {
        WindowSpec::Fixed { window } => window.length(),
        WindowSpec::UntilEnd { end } => end - from,
        WindowSpec::ForDuration { seconds } => Duration::seconds(seconds),
    }
}

/// Why this role cannot be opened with a password that is made for the window.
async fn credential_fault(
    request: &Request,
    state: &RoleState,
    connection: &Connection,
) -> Result<Option<Fault>, Failure> {
    match connection.standing_password(request.role.as_str()).await {
        Ok(standing) if state.can_login && standing.fingerprint.is_none() => {
            Ok(Some(open_outside_windows()))
        }
        Ok(_) => Ok(None),
        Err(access_postgres::Error::NotInstalled { .. }) => Ok(Some(Fault::new(
            FaultName::InstallationTooOld,
            "$.target",
            "ask the database's owner to run install.sql again: what is installed there cannot set a window's password",
        ))),
        Err(error) => Err(postgres(error)),
    }
}

/// That there are readers on which the end of a window could not be proved.
fn readers_fault(not_listed: &[String]) -> Option<Fault> {
    (!not_listed.is_empty()).then(|| {
        Fault::new(
            FaultName::ReadersNotListed,
            "$.target",
            format!(
                "ask the platform team to list the database's readers in other regions as \"readers\" in its catalogue document, or to remove them: {}",
                not_listed.join(", ")
            ),
        )
    })
}

fn open_outside_windows() -> Fault {
    Fault::new(
        FaultName::OpenOutsideWindows,
        "$.role",
        "ask the database's owner: the role can log in already with a password that is not of a window, which a new one would replace",
    )
}

fn closed_by_hand(grant: &Grant) -> Fault {
    let message = if grant.membership().is_some() {
        "ask the database's owner: somebody revoked this membership while a window was open"
    } else {
        "ask the database's owner: somebody took LOGIN from this role while a window was open"
    };
    Fault::new(FaultName::ClosedByHand, "$.role", message)
}

fn admission(error: window_shell::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}

pub(crate) fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}

fn database(error: database_shell::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}

pub(crate) fn postgres(error: access_postgres::Error) -> Failure {
    database(database_shell::Error::from(error))
}
