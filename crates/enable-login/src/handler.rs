//! Preflight, and converge with the right to open.

use access_aws::schedule::EndSchedules;
use access_aws::table::{FactsTaken, ServerPin, StoredRequest};
use access_aws::window_secret::WindowSecretMaker;
use access_contract::dry_run::{DryRun, NotAsked, Resolved};
use access_contract::payload::{Answer, EnableLogin, Outcome};
use access_contract::{ErrorName, Status};
use access_core::converge::carry_out::{self, Opening};
use access_core::{
    Database, Finding, Refusal, Request, RequestId, Window, WindowSpec, finding, time,
};
use access_postgres::{Connection, RolePowers, RoleState, SystemIdentifier, WindowPassword};
use chrono::{DateTime, Duration, Utc};
use database_shell::{Located, Reach, RoleToClose, RoleToOpen, WindowsInTable, login_seen};
use lambda_shell::{Failure, Invocation};
use serde_json::Value;
use window_shell::{Admission, Admitted, ToOpen};

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
        let Some((pin, findings)) = checked.seen.filter(|_| checked.refusals.is_empty()) else {
            return self.refuse(id, checked.refusals).await;
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
        let (checked, database_not_asked) = match self.check(&request).await {
            Ok(checked) => (checked, None),
            Err(failure) => (
                Checked {
                    refusals: self.refusals_of_others(&request).await?,
                    seen: None,
                },
                Some(not_asked(id, failure)?),
            ),
        };
        let windows = self
            .admission
            .table
            .windows(&request.target, &request.role)
            .await
            .map_err(aws)?;
        let window = request.window.approved_at((self.now)());
        tracing::info!(dry_run = %id, n_faults = checked.refusals.len(), "dry run answered");
        Ok(Outcome::DryRun(Box::new(DryRun {
            plan: plan::of(&request, at, window, windows.rows),
            request: Resolved::from(&request),
            window_if_approved_now: window,
            faults: access_text::faults(checked.refusals),
            database_not_asked,
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
                let refusals = vec![refusal_or_failure(request, error)?];
                return Ok(Checked {
                    refusals,
                    seen: None,
                });
            }
        };
        let (mut refusals, user_oid) = obstacles(request, &state, &located, &connection).await?;
        if !request.credential.is_existing() && !state.is_membership() {
            refusals.extend(credential_refusal(request, &state, &connection).await?);
        }
        refusals.extend(self.refusals_of_others(request).await?);
        // A role that is gone has no powers.
        let powers = match connection.role_powers(state.oid).await {
            Ok(powers) => powers,
            Err(_) if !refusals.is_empty() => {
                return Ok(Checked {
                    refusals,
                    seen: None,
                });
            }
            Err(error) => return Err(postgres(error)),
        };
        let findings = self.findings(request, &state, powers, &connection).await?;
        connection.end().await;
        let pin = ServerPin {
            system_identifier: server.system_identifier.to_string(),
            role_oid: state.oid,
            user_oid,
        };
        let seen = Some((pin, findings));
        Ok(Checked { refusals, seen })
    }

    /// Why it could not be opened because of what others have. Whoever asks for as soon as it is approved means now.
    async fn refusals_of_others(&self, request: &Request) -> Result<Vec<Refusal>, Failure> {
        let Some(window) = request.window.approved_at((self.now)()) else {
            return Ok(Vec::new());
        };
        let in_use = self.admission.in_use(request, window).await;
        let in_use = in_use.map_err(admission)?;
        Ok(in_use.iter().map(|it| it.refusal()).collect())
    }

    /// What approvers should know about the role.
    async fn findings(
        &self,
        request: &Request,
        state: &RoleState,
        powers: RolePowers,
        connection: &Connection,
    ) -> Result<Vec<Finding>, Failure> {
        let mut findings = findings(state, powers);
        if self
            .is_open_outside_windows(request, state, connection)
            .await?
        {
            findings.push(Finding::OpenedOutsideWindows);
        }
        Ok(findings)
    }

    /// Whether a login is open although no window of it has begun that is not proved closed.
    async fn is_open_outside_windows(
        &self,
        request: &Request,
        state: &RoleState,
        connection: &Connection,
    ) -> Result<bool, Failure> {
        if !request.grant.is_login() || !state.can_login {
            return Ok(false);
        }
        let windows = self
            .admission
            .table
            .windows(&request.target, &request.role)
            .await
            .map_err(aws)?;
        let now = (self.now)();
        if windows.rows.iter().any(|row| row.window.start() <= now) {
            return Ok(false);
        }
        // The last window may have been proved closed between the two looks.
        let again = connection.role_state(request.role.as_str()).await;
        Ok(again.map_err(postgres)?.can_login)
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
        let (pin, pinned) = pinned_server(&stored)?;
        connection
            .expect_server(Some(pinned))
            .await
            .map_err(postgres)?;
        // Both in one round trip; the role must be the one that preflight saw.
        let (seen, powers) = tokio::join!(
            connection.role_state(stored.request.role.as_str()),
            connection.role_powers(pin.role_oid)
        );
        let seen = match seen {
            Ok(state) => state,
            Err(error) => return self.refuse_or_fail(&stored.request, error).await,
        };
        let (mut refusals, user_oid) =
            obstacles(&stored.request, &seen, &located, &connection).await?;
        if pin.role_oid != seen.oid || (user_oid.is_some() && pin.user_oid != user_oid) {
            refusals.push(Refusal::RegisteredAnew);
        }
        if !refusals.is_empty() {
            return self.refuse(id, refusals).await;
        }
        // Once it is open, none of this is a reason to end it.
        if stored.status == Status::Approved
            && let Some(told) = &stored.findings
        {
            let powers = powers.map_err(postgres)?;
            let findings = self
                .findings(&stored.request, &seen, powers, &connection)
                .await?;
            let untold = finding::untold(told, &findings);
            if !untold.is_empty() {
                return self.refuse(id, vec![Refusal::RoleChanged { untold }]).await;
            }
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
                    return self.refuse(id, vec![Refusal::OpenOutsideWindows]).await;
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
            Ok(Opening::Over) => self.refuse(id, vec![Refusal::WindowOver]).await,
            Ok(Opening::ClosedByHand) => {
                let grant = request.grant.clone();
                self.refuse(id, vec![Refusal::ClosedByHand { grant }]).await
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
            })) if (self.now)() >= window.end() => self.refuse(id, vec![Refusal::WindowOver]).await,
            Err(database_shell::Error::Postgres(error)) => {
                self.refuse_or_fail(request, error).await
            }
            Err(error) => Err(database(error)),
        }
    }

    /// What the database refuses for good becomes an answer to the requester; the rest is a failure.
    async fn refuse_or_fail(
        &self,
        request: &Request,
        error: access_postgres::Error,
    ) -> Result<Outcome, Failure> {
        let refusal = refusal_or_failure(request, error)?;
        self.refuse(&request.request_id, vec![refusal]).await
    }

    async fn refuse(&self, id: &RequestId, refusals: Vec<Refusal>) -> Result<Outcome, Failure> {
        self.admission.refuse(id, refusals).await.map_err(admission)
    }
}

/// What preflight found.
struct Checked {
    /// Everything that stands in the way.
    refusals: Vec<Refusal>,
    /// The server and role, and what approvers should know; `None` where there is no such role.
    seen: Option<(ServerPin, Vec<Finding>)>,
}

/// What a dry run says of a database that could not be asked; any other failure is its own.
fn not_asked(id: &RequestId, failure: Failure) -> Result<NotAsked, Failure> {
    let message = match failure.name() {
        ErrorName::DatabaseUnreachable => {
            "ask the platform team whether the database is up and Latchkey gets there: it could not be reached"
        }
        ErrorName::DatabaseRefused => {
            "ask the database's owner whether Latchkey is installed there and its login exists: the database refused it"
        }
        ErrorName::NotTheRegisteredDatabase => {
            "ask the platform team: another server answers than the one that the catalogue means"
        }
        ErrorName::SecretUnavailable => {
            "ask the platform team: the password of Latchkey's own login could not be read"
        }
        _ => return Err(failure),
    };
    tracing::warn!(dry_run = %id, "the database could not be asked: {failure}");
    Ok(NotAsked {
        error: failure.name().as_str(),
        message: message.to_owned(),
    })
}

/// What the database refuses for good.
fn refusal_or_failure(
    request: &Request,
    error: access_postgres::Error,
) -> Result<Refusal, Failure> {
    use access_postgres::Error as Postgres;
    tracing::info!(request_id = %request.request_id, "the database refused: {error}");
    Ok(match error {
        Postgres::NotRegistered { .. } => Refusal::NotRegistered,
        Postgres::RoleChangedIdentity { .. } => Refusal::RegisteredAnew,
        Postgres::CouldUndoItsWindow { .. } => Refusal::CouldUndoItsWindow,
        Postgres::ClosedByHand { .. } => Refusal::ClosedByHand {
            grant: request.grant.clone(),
        },
        Postgres::OwnsPreparedTransaction { .. } => Refusal::PreparedTransaction,
        Postgres::MemberAlready { .. } => Refusal::MemberAlready {
            held_by: Vec::new(),
        },
        Postgres::WindowOutOfRange { .. } => Refusal::WindowTooLongForDatabase {
            longest_seconds: None,
        },
        error => return Err(postgres(error)),
    })
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

/// The server that preflight saw, and what it saw there.
fn pinned_server(stored: &StoredRequest) -> Result<(&ServerPin, SystemIdentifier), Failure> {
    let id = &stored.request.request_id;
    let Some(pin) = &stored.server else {
        return Err(Failure::new(
            ErrorName::RequestConflict,
            format!("request {id} was never checked"),
        ));
    };
    let system_identifier = pin.system_identifier.parse().map_err(|_| {
        Failure::new(
            ErrorName::Internal,
            format!("request {id} has a damaged system identifier"),
        )
    })?;
    Ok((pin, system_identifier))
}

/// Why the role could not be opened whoever approved it, and of a membership the OID of its user.
async fn obstacles(
    request: &Request,
    state: &RoleState,
    located: &Located<'_>,
    connection: &Connection,
) -> Result<(Vec<Refusal>, Option<u32>), Failure> {
    let mut refusals = role_refusals(request, state);
    if !located.not_listed().is_empty() {
        refusals.push(Refusal::ReadersNotListed {
            readers: located.not_listed().to_vec(),
        });
    }
    let mut user_oid = None;
    if let Some(asked) = request.grant.membership()
        && state.is_membership()
    {
        let found = membership::look(connection, &request.role, asked).await?;
        user_oid = Some(found.user_oid);
        refusals.extend(found.refusals);
    }
    Ok((refusals, user_oid))
}

/// What approvers should know of what the database says about the role.
fn findings(state: &RoleState, powers: RolePowers) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !powers.member_of.is_empty() {
        findings.push(Finding::MemberOf {
            roles: powers.member_of,
        });
    }
    if !state.members.is_empty() {
        findings.push(Finding::ActedAsBy {
            roles: state.members.clone(),
        });
    }
    let attributes = [
        (powers.create_role, Finding::CreateRole),
        (powers.create_database, Finding::CreateDatabase),
        (powers.replication, Finding::Replication),
        // Not refused, because rds_superuser has it.
        (powers.end_sessions, Finding::EndsSessions),
        (powers.bypass_row_security, Finding::BypassRowSecurity),
        (powers.reaches_latchkey, Finding::ReachesLatchkey),
    ];
    findings.extend(
        attributes
            .into_iter()
            .filter_map(|(has_it, finding)| has_it.then_some(finding)),
    );
    findings
}

fn role_refusals(request: &Request, state: &RoleState) -> Vec<Refusal> {
    use access_postgres::Obstacle;
    let mut refusals: Vec<_> = state
        .obstacles(request.role.as_str())
        .into_iter()
        .map(|obstacle| match obstacle {
            Obstacle::Dropped => Refusal::Dropped,
            Obstacle::Renamed { now } => Refusal::Renamed { now },
            Obstacle::NotManageable => Refusal::NotManageable,
            Obstacle::CouldUndoItsWindow => Refusal::CouldUndoItsWindow,
            Obstacle::OwnsPreparedTransaction => Refusal::PreparedTransaction,
        })
        .collect();
    if request.grant.is_login() == state.is_membership() {
        refusals.push(Refusal::OtherKindRegistered);
    }
    let longest = Duration::from_std(state.max_window).unwrap_or(Duration::MAX);
    if length(&request.window, request.requested_at) > longest {
        refusals.push(Refusal::WindowTooLongForDatabase {
            longest_seconds: Some(longest.num_seconds()),
        });
    }
    refusals
}

fn length(window: &WindowSpec, from: DateTime<Utc>) -> Duration {
    match *window {
        WindowSpec::Fixed { window } => window.length(),
        WindowSpec::UntilEnd { end } => end - from,
        WindowSpec::ForDuration { seconds } => Duration::seconds(seconds),
    }
}

/// Why this role cannot be opened with a password that is made for the window.
async fn credential_refusal(
    request: &Request,
    state: &RoleState,
    connection: &Connection,
) -> Result<Option<Refusal>, Failure> {
    match connection.standing_password(request.role.as_str()).await {
        Ok(standing) if state.can_login && standing.fingerprint.is_none() => {
            Ok(Some(Refusal::OpenOutsideWindows))
        }
        Ok(_) => Ok(None),
        Err(access_postgres::Error::NotInstalled { .. }) => Ok(Some(Refusal::InstallationTooOld)),
        Err(error) => Err(postgres(error)),
    }
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
