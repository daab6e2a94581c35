//! One round over all databases. It needs no execution, event or schedule to be alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use access_aws::catalogue::{Catalogue, Entries, Entry};
use access_aws::execution::{self, Execution};
use access_aws::table::{StoredRequest, Table};
use access_aws::window_secret::WindowSecrets;
use access_contract::record::Event;
use access_contract::{ErrorName, Status};
use access_core::catalogue::{Database, Mode};
use access_core::converge::carry_out::{self, Closing, LONGEST_CLOSING};
use access_core::{PersonId, RequestId, RoleName, TargetId, Window, WindowRow};
use access_postgres::{Connection, OpeningByHand, RoleSeen};
use chrono::{DateTime, TimeDelta, Utc};
use database_shell::{Reach, Reached, RoleToClose, WindowsInTable};
use futures_util::StreamExt as _;
use lambda_shell::{Failure, Invocation, Unit};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::judge::{Judgement, judge};

/// How many databases, or windows, or roles of one database, are looked after at the same time.
const AT_ONCE: usize = 10;

/// How long one database may take; an unreachable one delays no other. What takes longer is left to the next round.
const PER_DATABASE: Duration = Duration::from_secs(60);

const _: () = assert!(PER_DATABASE.as_secs() <= LONGEST_CLOSING.num_seconds().unsigned_abs());

/// How long one closing is tried in a round; the next round tries again.
const PROOF_DEADLINE: Duration = Duration::from_secs(30);

/// How long after its end a window is left to its execution and its schedule.
pub(crate) const GRACE: TimeDelta = TimeDelta::seconds(60);

/// The longest that the template lets IAM take until a changed policy holds everywhere.
const LONGEST_SETTLING: TimeDelta = TimeDelta::minutes(15);

pub(crate) struct Handler {
    pub(crate) catalogue: Catalogue,
    pub(crate) table: Table,
    pub(crate) step_functions: aws_sdk_sfn::Client,
    pub(crate) close_window_arn: String,
    pub(crate) window_secrets: WindowSecrets,
    pub(crate) deployment: String,
    pub(crate) reach: Reach,
    /// How long after its end a window without approval may wait for its review.
    pub(crate) review_within: TimeDelta,
    pub(crate) now: fn() -> DateTime<Utc>,
}

/// What a round found, for the log and the metrics.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Round {
    pub(crate) n_databases: u32,
    /// Databases with a server that could not be reached, or with a role that could not be looked after.
    pub(crate) n_unreachable: u32,
    pub(crate) n_roles: u32,
    /// Roles with access that no window gave, cut now.
    pub(crate) n_cut: u32,
    /// The same, but only watched.
    pub(crate) n_observed: u32,
    /// Roles that could not be proved closed in this round.
    pub(crate) n_not_closed: u32,
    /// Registered roles that were renamed, dropped or made anew.
    pub(crate) n_changed: u32,
    /// Windows whose role cannot log in.
    pub(crate) n_not_open: u32,
    /// Windows that were ended because their execution does not run any more.
    pub(crate) n_orphaned: u32,
    /// Openings by hand that were not known before.
    pub(crate) n_by_hand: u32,
    /// Windows without approval that have waited too long for their review.
    pub(crate) n_reviews_overdue: u32,
    /// What could not be asked after: windows, or the catalogue, or a document of it. Then the round does not count as one.
    pub(crate) n_not_asked: u32,
    /// By how many seconds the most overdue window is past its end.
    pub(crate) overdue_seconds: f64,
}

/// A database with everything that decides about its roles.
struct Watched {
    target: TargetId,
    database: Database,
    modes: BTreeMap<RoleName, Mode>,
}

impl Handler {
    pub(crate) async fn handle(&self, _invocation: Invocation) -> Result<Value, Failure> {
        let mut round = Round::default();
        let open = self.open_requests(&mut round).await?;
        let of_windows: Vec<Round> = futures_util::stream::iter(&open)
            .map(|stored| self.look_after_window(stored))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let entries = match self.catalogue.databases().await {
            Ok(Entries { entries, n_faulty }) => {
                round.n_not_asked += n_faulty;
                entries
            }
            // The databases of open windows are looked after all the same.
            Err(error) => {
                tracing::error!("the catalogue cannot be read: {error}");
                round.n_not_asked += 1;
                Vec::new()
            }
        };
        self.look_after_reviews(&entries, &mut round).await;
        let watched = watched(entries, &open);
        round.n_databases = u32::try_from(watched.len()).unwrap_or(u32::MAX);
        let of_databases: Vec<Round> = futures_util::stream::iter(&watched)
            .map(|watched| self.look_after(watched))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for part in of_windows.iter().chain(&of_databases) {
            round.add(part);
        }
        self.collect_secrets().await;
        self.report(&round);
        lambda_shell::write(&round)
    }

    /// Looks for windows without approval that nobody has reviewed in time, of everybody who may have one now.
    async fn look_after_reviews(&self, databases: &[Entry<Database>], round: &mut Round) {
        let accounts = match self.catalogue.accounts().await {
            // revoke-policy says which of its documents are faulty.
            Ok(accounts) => accounts.entries,
            Err(error) => {
                tracing::error!("the catalogue's accounts cannot be read: {error}");
                round.n_not_asked += 1;
                Vec::new()
            }
        };
        let of_accounts = accounts.iter().flat_map(|entry| &entry.roles);
        let policies = databases.iter().flat_map(|entry| &entry.roles);
        let policies = policies.chain(of_accounts);
        let may: BTreeSet<&PersonId> = policies
            .filter_map(|policy| policy.break_glass.as_ref())
            .flat_map(|break_glass| &break_glass.people)
            .collect();
        let found: Vec<_> = futures_util::stream::iter(may)
            .map(async |person| (person, self.review_is_overdue(person).await))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (person, overdue) in found {
            match overdue {
                Ok(overdue) => round.n_reviews_overdue += u32::from(overdue),
                Err(error) => {
                    tracing::error!(%person, "review not asked after: {error}");
                    round.n_not_asked += 1;
                }
            }
        }
    }

    async fn review_is_overdue(&self, person: &PersonId) -> Result<bool, access_aws::Error> {
        let Some(id) = self.table.missing_review(person).await? else {
            return Ok(false);
        };
        let stored = self.table.request(&id).await?;
        let is_overdue = stored
            .closing
            .is_some_and(|closing| closing.at + self.review_within < (self.now)());
        if is_overdue {
            tracing::error!(request_id = %id, %person, "opened without approval, and not reviewed in time");
        }
        Ok(is_overdue)
    }

    /// The requests whose windows are not closed. One that cannot be read hides no other.
    async fn open_requests(&self, round: &mut Round) -> Result<Vec<StoredRequest>, Failure> {
        let mut ids = Vec::new();
        for id in self.table.open_windows().await.map_err(aws)? {
            match id {
                Ok(id) => ids.push(id),
                Err(error) => {
                    tracing::error!("window not looked after: {error}");
                    round.n_not_asked += 1;
                }
            }
        }
        let found: Vec<_> = futures_util::stream::iter(&ids)
            .map(async |id| (id, self.table.request(id).await))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut open = Vec::new();
        for (id, stored) in found {
            match stored {
                // The index lags: a window that was closed a moment ago may still be in it.
                Ok(stored) if stored.status == Status::Open => open.push(stored),
                Ok(_) => {}
                // An adopted window has no request; it is looked after with its role.
                Err(error) if error.name() == ErrorName::RequestNotFound => {}
                Err(error) => {
                    tracing::error!(request_id = %id, "window not looked after: {error}");
                    round.n_not_asked += 1;
                }
            }
        }
        Ok(open)
    }

    /// What is wrong with one window, or with asking after it, keeps nobody from looking after the others.
    async fn look_after_window(&self, stored: &StoredRequest) -> Round {
        let mut round = Round::default();
        // Its end is looked after whatever becomes of asking after its execution.
        let orphan = self.end_orphan(stored, &mut round).await;
        let overdue = self.finish_overdue(stored, &mut round).await;
        for error in [orphan, overdue].into_iter().filter_map(Result::err) {
            tracing::error!(request_id = %stored.request.request_id, "window not looked after: {error}");
            round.n_not_asked += 1;
        }
        round
    }

    /// An execution that does not run any more looks after nothing: its window ends now.
    async fn end_orphan(
        &self,
        stored: &StoredRequest,
        round: &mut Round,
    ) -> Result<(), access_aws::Error> {
        let request = &stored.request;
        let by = match execution::status(&self.step_functions, &request.execution_arn).await? {
            Execution::Running => return Ok(()),
            Execution::Ended(status) => format!("reconcile: the execution is {status}"),
            Execution::Unknown => "reconcile: there is no such execution".to_owned(),
        };
        tracing::error!(request_id = %request.request_id, by, "window without an execution");
        self.table.end_early(request, &by, (self.now)()).await?;
        round.n_orphaned += 1;
        Ok(())
    }

    /// A window that is over and not closed gets a closing of its own, which records and announces it.
    async fn finish_overdue(
        &self,
        stored: &StoredRequest,
        round: &mut Round,
    ) -> Result<(), access_aws::Error> {
        let request = &stored.request;
        let windows = self.table.windows(&request.target, &request.role).await?;
        let now = (self.now)();
        let is_over = |row: &&WindowRow| row.request_id == request.request_id && row.is_over(now);
        let Some(row) = windows.rows.iter().find(is_over) else {
            return Ok(());
        };
        // Once policies are taken back, IAM has its time.
        let due_at = stored
            .revoked_at
            .map_or(row.over_at(), |revoked_at| revoked_at + LONGEST_SETTLING);
        round.overdue_seconds = (now - due_at).as_seconds_f64().max(0.0);
        // Those whose business it is have a moment to do it.
        if now - row.over_at() < GRACE && row.ended_at.is_none() {
            return Ok(());
        }
        let id = &request.request_id;
        let name = format!("{id}-{}", now.format("%Y%m%dT%H"));
        execution::start_closing(&self.step_functions, &self.close_window_arn, &name, request).await
    }

    /// Deletes the secrets that windows left behind. A secret is made after its window is armed, so that one whose
    /// request is not open belongs to nobody. Nothing else waits for it.
    async fn collect_secrets(&self) {
        let collected = async {
            for id in self.window_secrets.list().await? {
                match self.table.request(&id).await {
                    Ok(stored) if stored.status == Status::Open => continue,
                    Ok(_) => {}
                    Err(error) if error.name() == ErrorName::RequestNotFound => {}
                    Err(error) => return Err(error),
                }
                self.window_secrets.delete(&id).await?;
                tracing::warn!(request_id = %id, "a secret that its window left behind was deleted");
            }
            Ok(())
        };
        if let Err(error) = collected.await {
            tracing::error!("secrets of windows were not looked after: {error}");
        }
    }

    /// Every registered role of one database, by the database's own word. What was found and done counts, whatever goes
    /// wrong afterwards.
    async fn look_after(&self, watched: &Watched) -> Round {
        let deadline = Instant::now() + PER_DATABASE;
        let reached = timeout_at(deadline, self.registered_roles(watched)).await;
        let (reached, names) = match reached {
            Ok(Ok(reached)) => reached,
            Ok(Err(error)) => return unreachable(&watched.target, &error.to_string()),
            Err(_) => return unreachable(&watched.target, "no answer in time"),
        };
        let connections = &reached.connections;
        let of_roles: Vec<_> = futures_util::stream::iter(&names)
            .map(|name| self.look_after_in_time(watched, connections, name, deadline))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut round = Round {
            n_unreachable: u32::from(reached.n_missing > 0),
            ..Round::default()
        };
        for (part, _) in &of_roles {
            round.add(part);
        }
        // One after the other, last: each may take a second, and no closing waits for them.
        for name in of_roles.into_iter().filter_map(|(_, to_sweep)| to_sweep) {
            let sweeping = self.sweep(watched, connections, name, &mut round);
            let wrong = match timeout_at(deadline, sweeping).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => OUT_OF_TIME.to_owned(),
            };
            round.add(&not_looked_after(watched, name, &wrong));
        }
        // It is one database, whatever of it could not be seen.
        round.n_unreachable = round.n_unreachable.min(1);
        round
    }

    async fn registered_roles(
        &self,
        watched: &Watched,
    ) -> Result<(Reached, Vec<String>), database_shell::Error> {
        let located = self
            .reach
            .locate(&watched.database, &watched.database.closer)
            .await?;
        let reached = located.connect_everywhere().await?;
        let names = reached.connections[0].registered_roles().await?;
        Ok((reached, names))
    }

    /// Looks after one role, and gives its name back if it is to be swept. What is wrong with one role keeps nobody from
    /// looking after the others.
    async fn look_after_in_time<'a>(
        &self,
        watched: &Watched,
        connections: &[Connection],
        name: &'a str,
        deadline: Instant,
    ) -> (Round, Option<&'a str>) {
        let mut round = Round {
            n_roles: 1,
            ..Round::default()
        };
        let looking = self.look_after_role(watched, connections, name, &mut round);
        let wrong = match timeout_at(deadline, looking).await {
            Ok(Ok(judgement)) => {
                return (round, (judgement == Judgement::EndHidden).then_some(name));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => OUT_OF_TIME.to_owned(),
        };
        round.add(&not_looked_after(watched, name, &wrong));
        (round, None)
    }

    async fn sweep(
        &self,
        watched: &Watched,
        connections: &[Connection],
        name: &str,
        round: &mut Round,
    ) -> Result<(), database_shell::Error> {
        let n_ended = access_postgres::sweep_hidden(connections, name).await?;
        if n_ended == 0 {
            return Ok(());
        }
        tracing::error!(target = %watched.target, role = name, n_ended, "sessions that hid in their start were ended");
        round.n_cut += 1;
        if let Ok(role) = RoleName::new(name) {
            let n_sessions_ended = u64::try_from(n_ended).unwrap_or(u64::MAX);
            let target = watched.target.clone();
            self.record(Event::AccessCut {
                target,
                role,
                n_sessions_ended,
            })
            .await;
        }
        Ok(())
    }

    async fn look_after_role(
        &self,
        watched: &Watched,
        connections: &[Connection],
        name: &str,
        round: &mut Round,
    ) -> Result<Judgement, database_shell::Error> {
        let seen = access_postgres::look(connections, name).await?;
        for change in &seen.identity {
            tracing::error!(target = %watched.target, role = name, name_taken = seen.name_taken, "{change}");
            round.n_changed += 1;
        }
        let Ok(role) = RoleName::new(name) else {
            tracing::error!(target = %watched.target, ?name, can_login = seen.can_login, "a registered role has a name that no request can have");
            round.n_not_closed += u32::from(seen.can_login || seen.n_sessions > 0);
            return Ok(Judgement::Fine);
        };
        for opening in connections[0].openings_by_hand(name).await? {
            self.adopt(watched, &role, &opening, round).await?;
        }
        self.act(watched, &role, &seen, round).await
    }

    /// What the DBA opened in an outage is a window from now on: told to those on call, and closed like any, also if it
    /// was over before anybody saw it.
    async fn adopt(
        &self,
        watched: &Watched,
        role: &RoleName,
        opening: &OpeningByHand,
        round: &mut Round,
    ) -> Result<(), database_shell::Error> {
        let Some(window) = Window::new(opening.opened_at, opening.until) else {
            return Ok(());
        };
        let row = WindowRow {
            request_id: adopted_id(&watched.target, role, opening),
            requester: None,
            window,
            opened_at: Some(opening.opened_at),
            ended_at: None,
            ended_by: None,
            by_hand: true,
        };
        if self
            .table
            .adopt_window(&watched.target, role, &row, &opening.by)
            .await?
        {
            tracing::error!(target = %watched.target, %role, by = opening.by, until = %opening.until, "opened by hand");
            round.n_by_hand += 1;
        }
        Ok(())
    }

    async fn act(
        &self,
        watched: &Watched,
        role: &RoleName,
        seen: &RoleSeen,
        round: &mut Round,
    ) -> Result<Judgement, database_shell::Error> {
        let rows = self.table.windows(&watched.target, role).await?.rows;
        let mode = watched.modes.get(role).copied().unwrap_or(Mode::Observe);
        let judgement = judge(&rows, seen, mode, (self.now)());
        match judgement {
            Judgement::Fine | Judgement::EndHidden => {
                self.forget_adopted(&watched.target, role, &rows).await?;
            }
            Judgement::NotOpen => {
                tracing::error!(target = %watched.target, %role, "a window covers now and the role cannot log in");
                round.n_not_open += 1;
            }
            Judgement::WouldClose => {
                tracing::warn!(target = %watched.target, %role, ?seen, "access outside windows, observed only");
                round.n_observed += 1;
            }
            Judgement::Close => {
                tracing::error!(target = %watched.target, %role, ?seen, "access outside windows");
                self.record(Event::AccessFound {
                    target: watched.target.clone(),
                    role: role.clone(),
                    can_login: seen.can_login,
                    n_sessions: seen.n_sessions,
                })
                .await;
                let pin = self.pin(&rows).await?;
                let list =
                    WindowsInTable::new(&self.table, &watched.target, role, "reconcile", self.now);
                let to_close = RoleToClose {
                    reach: &self.reach,
                    database: &watched.database,
                    login: &watched.database.closer,
                    role,
                    system_identifier: pin,
                    role_oid: None,
                    deadline: PROOF_DEADLINE,
                    now: self.now,
                };
                match carry_out::close(&list, &to_close, None).await {
                    Ok(Closing::NotYet { .. } | Closing::StillOpen { .. }) => {
                        tracing::info!(target = %watched.target, %role, "a window covers by now");
                    }
                    Ok(Closing::Proved(proof)) => {
                        tracing::info!(target = %watched.target, %role, proved_at = %proof.proved_at, "closed");
                        round.n_cut += 1;
                        self.record(Event::AccessCut {
                            target: watched.target.clone(),
                            role: role.clone(),
                            n_sessions_ended: u64::try_from(proof.n_sessions_ended)
                                .unwrap_or(u64::MAX),
                        })
                        .await;
                        self.forget_adopted(&watched.target, role, &rows).await?;
                    }
                    Err(error) => {
                        tracing::error!(target = %watched.target, %role, "not proved closed: {error}");
                        round.n_not_closed += 1;
                    }
                }
            }
        }
        Ok(judgement)
    }

    /// Adopted windows that are over leave the list with their role closed, or under another window.
    async fn forget_adopted(
        &self,
        target: &TargetId,
        role: &RoleName,
        rows: &[WindowRow],
    ) -> Result<(), database_shell::Error> {
        for row in rows.iter().filter(|row| row.is_over((self.now)())) {
            match self.table.request(&row.request_id).await {
                Ok(_) => {}
                Err(error) if error.name() == ErrorName::RequestNotFound => {
                    self.table
                        .remove_adopted(target, role, &row.request_id)
                        .await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The server on which the windows of a role were opened, if any.
    async fn pin(
        &self,
        rows: &[WindowRow],
    ) -> Result<Option<access_postgres::SystemIdentifier>, database_shell::Error> {
        for row in rows {
            match self.table.request(&row.request_id).await {
                Ok(stored) => {
                    return Ok(stored
                        .server
                        .and_then(|pin| pin.system_identifier.parse().ok()));
                }
                Err(error) if error.name() == ErrorName::RequestNotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// What is found is cut whether or not it can be recorded.
    async fn record(&self, event: Event) {
        if let Err(error) = self.table.record(None, None, event).await {
            tracing::error!("not in the record: {error}");
        }
    }

    fn report(&self, round: &Round) {
        tracing::info!(?round, "round finished");
        let count = |name, n: u32| (name, Unit::Count, f64::from(n));
        lambda_shell::metrics(
            &self.deployment,
            &[
                count("ReconcileRounds", u32::from(round.n_not_asked == 0)),
                count("UnreachableDatabases", round.n_unreachable),
                count("AccessOutsideWindowsCut", round.n_cut),
                count("AccessOutsideWindowsObserved", round.n_observed),
                count("RolesNotClosed", round.n_not_closed),
                count("RolesChanged", round.n_changed),
                count("WindowsNotOpen", round.n_not_open),
                count("WindowsWithoutExecution", round.n_orphaned),
                count("OpeningsByHand", round.n_by_hand),
                count("ReviewsOverdue", round.n_reviews_overdue),
                ("WindowOverdue", Unit::Seconds, round.overdue_seconds),
            ],
            (self.now)().timestamp_millis(),
        );
    }
}

impl Round {
    fn add(&mut self, part: &Self) {
        self.n_unreachable += part.n_unreachable;
        self.n_roles += part.n_roles;
        self.n_cut += part.n_cut;
        self.n_observed += part.n_observed;
        self.n_not_closed += part.n_not_closed;
        self.n_changed += part.n_changed;
        self.n_not_open += part.n_not_open;
        self.n_by_hand += part.n_by_hand;
        self.n_reviews_overdue += part.n_reviews_overdue;
        self.n_orphaned += part.n_orphaned;
        self.n_not_asked += part.n_not_asked;
        self.overdue_seconds = self.overdue_seconds.max(part.overdue_seconds);
    }
}

/// The catalogue's databases, and those of open windows that the catalogue does not have (so) any more.
fn watched(entries: Vec<Entry<Database>>, open: &[StoredRequest]) -> Vec<Watched> {
    let mut watched: Vec<_> = entries
        .into_iter()
        .map(|entry| Watched {
            target: entry.target,
            database: entry.place,
            modes: entry
                .roles
                .into_iter()
                .map(|policy| (policy.role, policy.mode))
                .collect(),
        })
        .collect();
    let mut pinned = BTreeSet::new();
    for stored in open {
        let request = &stored.request;
        // Policies in accounts are revoke-policy's business.
        let Some(database) = request.place.database() else {
            continue;
        };
        let known = watched
            .iter()
            .any(|entry| entry.target == request.target && entry.database == *database);
        if !known && pinned.insert((request.target.clone(), format!("{:?}", database.location))) {
            watched.push(Watched {
                target: request.target.clone(),
                database: database.clone(),
                modes: BTreeMap::new(),
            });
        }
    }
    watched
}

/// One opening by hand has one id, however often it is seen.
fn adopted_id(target: &TargetId, role: &RoleName, opening: &OpeningByHand) -> RequestId {
    RequestId::of_execution(
        &format!("by hand: {target} {role}"),
        opening.opened_at.timestamp_millis(),
    )
}

const OUT_OF_TIME: &str = "not done in time; the next round tries again";

fn not_looked_after(watched: &Watched, name: &str, why: &str) -> Round {
    tracing::error!(target = %watched.target, role = name, "role not looked after: {why}");
    Round {
        n_unreachable: 1,
        ..Round::default()
    }
}

fn unreachable(target: &TargetId, why: &str) -> Round {
    tracing::error!(%target, "database not looked after: {why}");
    Round {
        n_unreachable: 1,
        ..Round::default()
    }
}

fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
