//! Closing as a proof: LOGIN is taken, every session ends on every instance, and that is watched for a while.
//!
//! One `NOLOGIN` and one `pg_terminate_backend` are not enough. A connection that was past the login check
//! becomes a session afterwards; with `post_auth_delay` it does so up to 35 minutes later and shows in `pg_locks` only.
//! A session of the role can hold the role's own row, so that `NOLOGIN` waits until that session is ended.
//! Hence LOGIN is taken and sessions are ended at the same time, over two connections, and an instance counts
//! as closed only after several quiet rounds in which it showed no LOGIN and nothing was left to end.
//!
//! A role with `pg_signal_backend` can end our sessions as well as we can end its own, in a loop that sees ours within
//! microseconds. What such a loop has ended is gone, but what our session has signalled before is gone too. Hence every
//! connection begins with a statement that ends the role's sessions, which leaves together with the login and so is there
//! when the server is ready for it (see `first_statement`); and after a connection was cut the next one comes without a
//! pause. No more than the two connections that closing needs anyway come at once, lest one's handshake keep the other's
//! statement waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use crate::connection::{Struck, connect_and_strike};
use crate::{Connection, Endpoint, Error, Login, RoleState, Server, SystemIdentifier, TlsSettings};

/// Every server on which the role could have a session.
#[derive(Clone, Debug)]
pub struct ClosingTargets {
    /// The server that takes changes. If it turns out read-only, the readers are tried as writers too.
    pub writer: Endpoint,
    /// All other instances, each by its own name and not by one that stands for several.
    pub readers: Vec<Endpoint>,
    /// The cluster that was opened; another one is refused. `None` accepts any.
    pub system_identifier: Option<SystemIdentifier>,
    /// The role that was opened. If another one is registered under its name by now, this one must be seen closed too, for
    /// nobody else looks after it. `None` for whichever is registered.
    pub role_oid: Option<u32>,
}

/// How long and how often closing tries and looks.
#[derive(Clone, Copy, Debug)]
pub struct ClosingPace {
    /// When to give up for this time, counted from the call.
    pub deadline: Duration,
    /// Pause after a round that found something, or failed.
    pub between_sweeps: Duration,
    /// How many quiet rounds in a row count as proof.
    pub n_quiet_rounds: u32,
    /// Pause between quiet rounds.
    pub between_quiet_rounds: Duration,
}

impl ClosingPace {
    /// The pace under which no session survived in the experiments: a sweep every 100 ms, then four quiet rounds
    /// half a second apart.
    #[must_use]
    pub fn within(deadline: Duration) -> Self {
        Self {
            deadline,
            between_sweeps: Duration::from_millis(100),
            n_quiet_rounds: 4,
            between_quiet_rounds: Duration::from_millis(500),
        }
    }
}

/// What was observed while a role was closed. Times are ours, not the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofOfClosing {
    /// When closing began.
    pub started_at: DateTime<Utc>,
    /// When the writer could first be spoken to.
    pub connected_at: DateTime<Utc>,
    /// When NOLOGIN was committed: from here on nobody new gets in.
    pub login_refused_at: DateTime<Utc>,
    /// When the last session had gone, on whichever instance.
    pub sessions_gone_at: DateTime<Utc>,
    /// When the last instance had been quiet for long enough.
    pub proved_at: DateTime<Utc>,
    /// How many sessions were ended, those still starting included.
    pub n_sessions_ended: usize,
    /// Each instance, the writer first.
    pub instances: Vec<InstanceProof>,
}

/// What was observed on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProof {
    /// The instance.
    pub endpoint: Endpoint,
    /// What it says about itself.
    pub server: Server,
    /// When it was first seen without LOGIN for the role and without a session of it, to stay so.
    pub sessions_gone_at: DateTime<Utc>,
    /// When it had been quiet for long enough.
    pub proved_at: DateTime<Utc>,
    /// How many sessions were ended on it.
    pub n_sessions_ended: usize,
    /// The role as it was last seen there.
    pub state: RoleState,
}

/// The role is not proved closed: what was seen last, and where.
#[derive(Debug)]
pub struct NotProved {
    /// The registered name of the role.
    pub role: String,
    /// How long it was tried.
    pub tried_for: Duration,
    /// When NOLOGIN was committed, if it was.
    pub login_refused_at: Option<DateTime<Utc>>,
    /// Why NOLOGIN could not be committed, as far as that is known.
    pub disabling: Option<Error>,
    /// Each instance, the writer first.
    pub instances: Vec<InstanceSighting>,
}

/// What was last seen on one instance when the time was over.
#[derive(Debug)]
pub struct InstanceSighting {
    /// The instance.
    pub endpoint: Endpoint,
    /// Whether this instance, for itself, was proved closed.
    pub proved: bool,
    /// How many sessions were ended on it.
    pub n_sessions_ended: usize,
    /// The role as it was last seen there, if it was seen at all.
    pub state: Option<RoleState>,
    /// The role that was opened, if it is open there and another one is registered in its place.
    pub former: Option<u32>,
    /// What went wrong last, if it went wrong last.
    pub error: Option<Error>,
}

impl fmt::Display for NotProved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "role {:?} is not proved closed after {:?}",
            self.role, self.tried_for
        )?;
        if let Some(error) = &self.disabling {
            write!(formatter, "; taking LOGIN: {error}")?;
        }
        for instance in self.instances.iter().filter(|instance| !instance.proved) {
            write!(formatter, "; {}: ", instance.endpoint)?;
            match (&instance.error, instance.former, &instance.state) {
                (Some(error), _, _) => write!(formatter, "{error}")?,
                (None, Some(former), _) => write!(
                    formatter,
                    "another role is registered; take LOGIN from the one that was opened, with OID {former}, and end its sessions"
                )?,
                (None, None, Some(state)) => write!(
                    formatter,
                    "{}, {} sessions, {} prepared transactions, members {:?}",
                    if state.can_login { "open" } else { "closed" },
                    state.n_sessions,
                    state.n_prepared,
                    state.members
                )?,
                (None, None, None) => formatter.write_str("not seen")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for NotProved {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let of_instances = self.instances.iter().filter_map(|seen| seen.error.as_ref());
        let first = self.disabling.iter().chain(of_instances).next()?;
        Some(first)
    }
}

/// Takes LOGIN from the role, ends its sessions on every instance, and returns when that has been seen to last.
///
/// Never waits for a lock longer than 3 seconds at a time, and tries again what can be tried again.
/// Safe to run twice at once, late, and for a role that is closed already.
///
/// # Errors
///
/// [`Error::NotProved`] when the deadline is reached or an instance cannot be checked: closed elsewhere as far as possible.
/// At once, because trying again is of no use until somebody does something: [`Error::AuthenticationRefused`],
/// [`Error::NotTheRegisteredServer`], [`Error::UntrustedServer`], [`Error::HandshakeRefused`],
/// [`Error::NotRegistered`], [`Error::NotInstalled`], [`Error::Forbidden`], [`Error::Unexpected`] of the writer.
pub async fn close(
    targets: &ClosingTargets,
    login: &Login,
    tls: &TlsSettings,
    role: &str,
    pace: &ClosingPace,
    now: fn() -> DateTime<Utc>,
) -> Result<ProofOfClosing, Error> {
    let closing = Closing {
        targets,
        login,
        tls,
        role,
        pace,
        now,
        deadline: Instant::now() + pace.deadline,
        no_connection_is_free: AtomicBool::new(false),
        writer_is_swept: AtomicBool::new(false),
        taken: OnceLock::new(),
        ended: Mutex::default(),
    };
    let started_at = now();
    let watch_instances = async {
        let watches = closing.instances().map(|endpoint| closing.watch(endpoint));
        Ok(join_all(watches).await)
    };
    // A final refusal of the writer stops everything; what goes wrong on one instance does not stop the others.
    let (disabled, watched) = tokio::try_join!(closing.disable(), watch_instances)?;

    let mut proofs = Vec::new();
    let mut sightings = Vec::new();
    for watched in watched {
        match watched {
            Watched::Proved(proof) => {
                sightings.push(InstanceSighting {
                    endpoint: proof.endpoint.clone(),
                    proved: true,
                    n_sessions_ended: proof.n_sessions_ended,
                    state: Some(proof.state.clone()),
                    former: None,
                    error: None,
                });
                proofs.push(*proof);
            }
            Watched::NotProved(sighting) => sightings.push(*sighting),
        }
    }
    let all_proved = proofs.len() == sightings.len();
    match disabled {
        Disabled::Committed(Committed {
            connected_at,
            login_refused_at,
        }) if all_proved => Ok(ProofOfClosing {
            started_at,
            connected_at,
            login_refused_at,
            sessions_gone_at: latest(login_refused_at, &proofs, |proof| proof.sessions_gone_at),
            proved_at: latest(login_refused_at, &proofs, |proof| proof.proved_at),
            n_sessions_ended: proofs.iter().map(|proof| proof.n_sessions_ended).sum(),
            instances: proofs,
        }),
        disabled => {
            let (login_refused_at, disabling) = match disabled {
                Disabled::Committed(committed) => (Some(committed.login_refused_at), None),
                Disabled::OutOfTime(error) => (None, error),
            };
            Err(Error::from(Box::new(NotProved {
                role: role.to_owned(),
                tried_for: pace.deadline,
                login_refused_at,
                disabling,
                instances: sightings,
            })))
        }
    }
}

fn latest(
    floor: DateTime<Utc>,
    proofs: &[InstanceProof],
    time: impl Fn(&InstanceProof) -> DateTime<Utc>,
) -> DateTime<Utc> {
    proofs.iter().map(time).fold(floor, DateTime::max)
}

struct Closing<'a> {
    targets: &'a ClosingTargets,
    login: &'a Login,
    tls: &'a TlsSettings,
    role: &'a str,
    pace: &'a ClosingPace,
    now: fn() -> DateTime<Utc>,
    deadline: Instant,
    /// The one that takes LOGIN was refused a connection (53300). Those that sweep have one each, and take it then:
    /// if many roles are closed at once, all connections could be theirs.
    no_connection_is_free: AtomicBool,
    /// Whether one that sweeps is connected to a server that takes changes.
    writer_is_swept: AtomicBool,
    /// When LOGIN was taken by one that sweeps.
    taken: OnceLock<Committed>,
    /// The backends that were ended, by whichever connection.
    ended: Mutex<BTreeMap<String, BTreeSet<i32>>>,
}

/// The way to one server, over a connection that may break.
#[derive(Default)]
struct Line {
    open: Option<Open>,
    /// When the server could first be spoken to.
    connected_at: Option<DateTime<Utc>>,
    /// Whether the server let us in the last time.
    stood: bool,
    /// Whether it did, and then our session was ended from the other side.
    was_cut: bool,
}

impl Line {
    /// Learns from a failure. `true` if a new connection is needed, perhaps to another instance.
    fn fail(&mut self, error: &Error) -> bool {
        let is_useless = connection_is_useless(error);
        if is_useless {
            self.open = None;
            let is_unreachable = matches!(error, Error::Unreachable { .. });
            self.was_cut = error.session_was_ended() || (self.stood && is_unreachable);
        }
        is_useless
    }

    /// How long to wait before the next try. Not at all while somebody ends our sessions: their time is ours.
    fn pause(&self, pause: Duration) -> Duration {
        if self.was_cut { Duration::ZERO } else { pause }
    }
}

/// A connection to the pinned cluster.
struct Open {
    connection: Connection,
    server: Server,
    /// Sessions that its first statement ended, until they are counted.
    struck: Vec<i32>,
    /// Whether its first statement took LOGIN.
    login_is_closed: bool,
}

/// What the first statement of a connection does.
#[derive(Clone, Copy)]
enum Stroke {
    /// Ends the role's sessions.
    EndSessions,
    /// The same, and takes LOGIN.
    CloseLogin,
}

/// That NOLOGIN was committed.
#[derive(Clone, Copy)]
struct Committed {
    connected_at: DateTime<Utc>,
    login_refused_at: DateTime<Utc>,
}

enum Disabled {
    Committed(Committed),
    OutOfTime(Option<Error>),
}

enum Watched {
    Proved(Box<InstanceProof>),
    NotProved(Box<InstanceSighting>),
}

struct Round {
    server: Server,
    ended_pids: Vec<i32>,
    /// Sessions still starting that we may not end.
    n_refused: u32,
    /// The role that was opened, if it is open and another one is registered in its place.
    former: Option<u32>,
    state: RoleState,
}

impl Round {
    /// Of a role that is still in our hands, what is starting and refused to us is somebody else's. Of one that is not,
    /// such as a dropped one, it may be the role's.
    fn is_quiet(&self) -> bool {
        let may_hide_its_own = !self.state.is_manageable && self.n_refused > 0;
        self.ended_pids.is_empty()
            && self.state.is_closed()
            && !may_hide_its_own
            && self.former.is_none()
    }
}

impl<'a> Closing<'a> {
    fn instances(&self) -> impl Iterator<Item = &'a Endpoint> + Clone {
        let ClosingTargets {
            writer, readers, ..
        } = self.targets;
        std::iter::once(writer).chain(readers.iter().filter(move |reader| *reader != writer))
    }

    /// Takes LOGIN on whichever instance is the writer, until that is committed and seen.
    async fn disable(&self) -> Result<Disabled, Error> {
        let writer = &self.targets.writer;
        let mut candidates = self.instances().cycle().skip(1);
        let mut endpoint = writer;
        let mut line = Line::default();
        let mut last_error = None;
        let mut n_refused = 0;
        while Instant::now() < self.deadline {
            if let Some(committed) = self.taken.get() {
                return Ok(Disabled::Committed(*committed));
            }
            if self.no_connection_is_free.load(Ordering::Relaxed)
                && self.writer_is_swept.load(Ordering::Relaxed)
            {
                self.pause(self.pace.between_sweeps).await;
                continue;
            }
            let mut pause = self.pace.between_sweeps;
            match self.disable_once(endpoint, &mut line).await {
                Ok(true) => {
                    let login_refused_at = (self.now)();
                    if let Some(open) = line.open {
                        open.connection.end().await;
                    }
                    return Ok(Disabled::Committed(Committed {
                        connected_at: line.connected_at.unwrap_or(login_refused_at),
                        login_refused_at,
                    }));
                }
                // Somebody gave LOGIN back in between.
                Ok(false) => {}
                Err(error) if endpoint == writer && !error.retryable() => return Err(error),
                Err(error) => {
                    tracing::warn!(role = self.role, %endpoint, error = %chain(&error), "take LOGIN: trying again");
                    if matches!(error, Error::TooManyConnections { .. }) {
                        self.no_connection_is_free.store(true, Ordering::Relaxed);
                        pause = crowded(pause, n_refused);
                        n_refused += 1;
                    }
                    let is_final = !error.retryable();
                    if line.fail(&error) || is_final {
                        line.open = None;
                        // Whoever was let in and cut is on the right server.
                        if !line.was_cut {
                            endpoint = candidates.next().unwrap_or(writer);
                        }
                    }
                    pause = line.pause(pause);
                    // That the time ended in the middle of a try says less than why the tries before it failed.
                    if last_error.is_none() || Instant::now() < self.deadline {
                        last_error = Some(error);
                    }
                }
            }
            self.pause(pause).await;
        }
        Ok(Disabled::OutOfTime(last_error))
    }

    async fn disable_once(&self, endpoint: &Endpoint, line: &mut Line) -> Result<bool, Error> {
        let open = self.connected(endpoint, line, Stroke::CloseLogin).await?;
        if open.login_is_closed {
            return Ok(true);
        }
        self.in_time(endpoint, open.connection.close_login(self.role))
            .await
    }

    /// Sweeps one instance until it has been quiet for long enough.
    async fn watch(&self, endpoint: &Endpoint) -> Watched {
        let mut line = Line::default();
        let mut state = None;
        let mut former = None;
        let mut error = None;
        let mut n_quiet = 0;
        let mut quiet_since = None;
        let mut n_refused = 0;
        while Instant::now() < self.deadline {
            let pause = match self.round(endpoint, &mut line).await {
                Ok(round) if round.is_quiet() => {
                    n_quiet += 1;
                    let at = (self.now)();
                    let sessions_gone_at = *quiet_since.get_or_insert(at);
                    if n_quiet >= self.pace.n_quiet_rounds {
                        if let Some(open) = line.open {
                            open.connection.end().await;
                        }
                        return Watched::Proved(Box::new(InstanceProof {
                            endpoint: endpoint.clone(),
                            server: round.server,
                            sessions_gone_at,
                            proved_at: at,
                            n_sessions_ended: self.n_ended(endpoint),
                            state: round.state,
                        }));
                    }
                    state = Some(round.state);
                    error = None;
                    self.pace.between_quiet_rounds
                }
                Ok(round) => {
                    n_quiet = 0;
                    quiet_since = None;
                    state = Some(round.state);
                    former = round.former;
                    error = None;
                    self.pace.between_sweeps
                }
                Err(failure) => {
                    n_quiet = 0;
                    quiet_since = None;
                    let is_final = !failure.retryable();
                    let pause = if matches!(failure, Error::TooManyConnections { .. }) {
                        n_refused += 1;
                        crowded(self.pace.between_sweeps, n_refused)
                    } else {
                        self.pace.between_sweeps
                    };
                    if line.fail(&failure) {
                        self.writer_is_swept.store(false, Ordering::Relaxed);
                    }
                    let pause = line.pause(pause);
                    tracing::warn!(role = self.role, %endpoint, error = %chain(&failure), is_final, "sweep sessions: failed");
                    // What was seen says more than that the time ended in the middle of the next look.
                    if state.is_none() || Instant::now() < self.deadline {
                        error = Some(failure);
                    }
                    if is_final {
                        break;
                    }
                    pause
                }
            };
            self.pause(pause).await;
        }
        Watched::NotProved(Box::new(InstanceSighting {
            endpoint: endpoint.clone(),
            proved: false,
            n_sessions_ended: self.n_ended(endpoint),
            state,
            former,
            error,
        }))
    }

    async fn round(&self, endpoint: &Endpoint, line: &mut Line) -> Result<Round, Error> {
        let open = self.connected(endpoint, line, Stroke::EndSessions).await?;
        let mut ended_pids = std::mem::take(&mut open.struck);
        let connection = &open.connection;
        if !open.server.in_recovery {
            self.writer_is_swept.store(true, Ordering::Relaxed);
            if self.no_connection_is_free.load(Ordering::Relaxed) {
                self.take_login_over(endpoint, connection).await;
            }
        }
        let swept = self.in_time(endpoint, connection.sweep(self.role)).await?;
        self.count(endpoint, open.server, &swept.ended_pids);
        ended_pids.extend(swept.ended_pids);
        let state = self
            .in_time(endpoint, connection.role_state(self.role))
            .await?;
        Ok(Round {
            server: open.server,
            ended_pids,
            n_refused: swept.n_refused,
            former: self.former(open, endpoint, &state).await?,
            state,
        })
    }

    async fn former(
        &self,
        open: &Open,
        endpoint: &Endpoint,
        state: &RoleState,
    ) -> Result<Option<u32>, Error> {
        let Some(opened) = self.targets.role_oid.filter(|opened| *opened != state.oid) else {
            return Ok(None);
        };
        let is_open = self
            .in_time(endpoint, open.connection.is_open(opened))
            .await?;
        Ok(is_open.then_some(opened))
    }

    /// Takes LOGIN in the place of the one whose business it is. Whatever goes wrong, sweeping goes on: it may be what is
    /// in the way.
    async fn take_login_over(&self, endpoint: &Endpoint, connection: &Connection) {
        if self.taken.get().is_some() {
            return;
        }
        let connected_at = (self.now)();
        match self
            .in_time(endpoint, connection.close_login(self.role))
            .await
        {
            Ok(true) => {
                let login_refused_at = (self.now)();
                self.taken.get_or_init(|| Committed {
                    connected_at,
                    login_refused_at,
                });
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(role = self.role, %endpoint, error = %chain(&error), "take LOGIN while sweeping: trying again");
            }
        }
    }

    /// The open connection to the pinned cluster, or a new one. The host name is resolved anew each time.
    async fn connected<'l>(
        &self,
        endpoint: &Endpoint,
        line: &'l mut Line,
        stroke: Stroke,
    ) -> Result<&'l mut Open, Error> {
        let open = match line.open.take() {
            // What its first statement said about LOGIN was said then.
            Some(open) => Open {
                login_is_closed: false,
                ..open
            },
            None => {
                line.stood = false;
                let (connection, struck) = self
                    .in_time(endpoint, self.strike(endpoint, stroke))
                    .await?;
                line.stood = true;
                line.connected_at.get_or_insert_with(self.now);
                let open = match struck {
                    Some(struck) => Open {
                        connection,
                        server: struck.server,
                        struck: struck.ended_pids,
                        login_is_closed: struck.login_is_closed,
                    },
                    // One after the other then.
                    None => Open {
                        server: self
                            .in_time(
                                endpoint,
                                connection.expect_server(self.targets.system_identifier),
                            )
                            .await?,
                        connection,
                        struck: Vec::new(),
                        login_is_closed: false,
                    },
                };
                line.was_cut = false;
                self.count(endpoint, open.server, &open.struck);
                open
            }
        };
        Ok(line.open.insert(open))
    }

    async fn strike(
        &self,
        endpoint: &Endpoint,
        stroke: Stroke,
    ) -> Result<(Connection, Option<Struck>), Error> {
        let expected = self.targets.system_identifier;
        let close_login = matches!(stroke, Stroke::CloseLogin);
        connect_and_strike(
            endpoint,
            self.login,
            self.tls,
            self.role,
            expected,
            close_login,
        )
        .await
    }

    /// The one that takes changes can have two names, its own and its cluster's: what is ended there counts once.
    fn count(&self, endpoint: &Endpoint, server: Server, pids: &[i32]) {
        let endpoint = if server.in_recovery {
            endpoint
        } else {
            &self.targets.writer
        };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry(endpoint.to_string()).or_default().extend(pids);
    }

    fn n_ended(&self, endpoint: &Endpoint) -> usize {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get(&endpoint.to_string()).map_or(0, BTreeSet::len)
    }

    async fn in_time<T>(
        &self,
        endpoint: &Endpoint,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout_at(self.deadline, work)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::TimedOut {
                    endpoint: endpoint.clone(),
                    limit: self.pace.deadline,
                })
            })
    }

    async fn pause(&self, pause: Duration) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        sleep(pause.min(left)).await;
    }
}

/// Whether after this failure a new connection is needed, perhaps to another instance.
fn connection_is_useless(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable { .. }
            | Error::TimedOut { .. }
            | Error::ReadOnly { .. }
            | Error::TooManyConnections { .. }
    )
}

/// How long to wait after the `n_refused`-th refusal of a connection in a row: longer each time, up to 32 times `pause`,
/// and at random, so that those who wait do not all come back at once. Each try costs the server a TLS handshake and a
/// login.
fn crowded(pause: Duration, n_refused: u32) -> Duration {
    let random = RandomState::new().hash_one(n_refused) % 1_000;
    let longest = pause * 2_u32.pow(n_refused.min(5));
    longest.mul_f64(0.5 + f64::from(u32::try_from(random).unwrap_or(0)) / 2_000.0)
}

/// The error and its causes, since the driver's own words are only "db error".
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
