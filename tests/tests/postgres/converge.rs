//! Converge on a real server: the steps that the functions run, their windows in memory, and everything that can come
//! between a reading and a commit.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use access_core::converge::carry_out::{
    self, ClosableRole, Closing, LONGEST_CLOSING, OpenableRole, Opening, WindowList,
};
use access_core::{LoginSeen, RequestId, Window, WindowRow, Windows};
use access_postgres::{ClosingPace, Connection, Error, ProofOfClosing, ValidUntil};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use xtask::postgres::{Account, LocalPostgres};

use super::fixture::*;
use super::membership::{Membership, can_act, new_membership};

/// The table, as far as converge sees it.
#[derive(Default)]
struct Table {
    rows: Mutex<Vec<WindowRow>>,
    announced: Mutex<BTreeMap<usize, DateTime<Utc>>>,
}

impl Table {
    /// A window from a moment ago, armed.
    fn arm(&self, length: TimeDelta) -> RequestId {
        static COUNTER: AtomicI64 = AtomicI64::new(0);
        let start = Utc::now() - TimeDelta::seconds(1);
        let row = WindowRow {
            request_id: RequestId::of_execution("arn", COUNTER.fetch_add(1, Ordering::Relaxed)),
            requester: None,
            window: Window::new(start, Utc::now() + length).unwrap(),
            opened_at: None,
            ended_at: None,
            ended_by: None,
            by_hand: false,
        };
        self.rows.lock().unwrap().push(row.clone());
        row.request_id
    }

    fn change(&self, id: &RequestId, change: impl FnOnce(&mut WindowRow)) {
        let mut rows = self.rows.lock().unwrap();
        change(rows.iter_mut().find(|row| row.request_id == *id).unwrap());
    }

    fn revoke(&self, id: &RequestId) {
        self.change(id, |row| row.ended_at = Some(Utc::now()));
    }

    fn row(&self, id: &RequestId) -> Option<WindowRow> {
        let rows = self.rows.lock().unwrap();
        rows.iter().find(|row| row.request_id == *id).cloned()
    }

    fn remove(&self, id: &RequestId) {
        self.rows
            .lock()
            .unwrap()
            .retain(|row| row.request_id != *id);
    }
}

/// What is opened: each kind of access in its way, and closed by its registered name.
trait Openable: Sync {
    fn name(&self) -> &str;

    fn open_on(
        &self,
        connection: &Connection,
        until: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Openable for Account {
    fn name(&self) -> &str {
        &self.user
    }

    async fn open_on(&self, connection: &Connection, until: DateTime<Utc>) -> Result<(), Error> {
        connection.open_login(&self.user, until).await
    }
}

impl Openable for Membership {
    fn name(&self) -> &str {
        &self.registered.user
    }

    async fn open_on(&self, connection: &Connection, until: DateTime<Utc>) -> Result<(), Error> {
        let (role, user) = (&self.role, &self.user.user);
        connection
            .open_membership(self.name(), role, user, until)
            .await
    }
}

/// One call of a function.
struct Call<'a, R> {
    n: usize,
    table: &'a Table,
    server: &'a LocalPostgres,
    role: &'a R,
    /// Whose login it uses: the opener can close as well, to take back what it gave.
    caller: &'a Account,
}

impl<'a, R> Call<'a, R> {
    fn new(table: &'a Table, server: &'a LocalPostgres, role: &'a R, caller: &'a Account) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        Self {
            n: COUNTER.fetch_add(1, Ordering::Relaxed),
            table,
            server,
            role,
            caller,
        }
    }
}

/// A function that dies leaves its announcement behind until nothing of it can run any more; here that is sooner, since
/// its one statement that could still run waits for no lock of a test.
impl<R> Drop for Call<'_, R> {
    fn drop(&mut self) {
        if let Some(until) = self.table.announced.lock().unwrap().get_mut(&self.n) {
            *until = Utc::now() + TimeDelta::seconds(4);
        }
    }
}

impl<R: Openable> WindowList for Call<'_, R> {
    type Error = Error;

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn windows(&self) -> Result<Windows, Error> {
        Ok(Windows {
            rows: self.table.rows.lock().unwrap().clone(),
            closing_until: self.table.announced.lock().unwrap().values().max().copied(),
        })
    }

    async fn announce_closing(&self) {
        let until = Utc::now() + LONGEST_CLOSING;
        self.table.announced.lock().unwrap().insert(self.n, until);
    }

    async fn withdraw_closing(&self) {
        self.table.announced.lock().unwrap().remove(&self.n);
    }

    async fn mark_opened(&self, id: &RequestId) -> Result<(), Error> {
        let mut rows = self.table.rows.lock().unwrap();
        if let Some(row) = rows.iter_mut().find(|row| row.request_id == *id) {
            row.opened_at.get_or_insert(Utc::now());
        }
        Ok(())
    }
}

impl<R: Openable> ClosableRole for Call<'_, R> {
    type Error = Error;
    type Proof = ProofOfClosing;

    async fn close(&self) -> Result<ProofOfClosing, Error> {
        let targets = only(self.server);
        let pace = ClosingPace {
            between_quiet_rounds: Duration::from_millis(50),
            ..ClosingPace::within(Duration::from_secs(30))
        };
        access_postgres::close(
            &targets,
            &login(self.caller),
            &tls(self.server),
            self.role.name(),
            &pace,
            Utc::now,
        )
        .await
    }

    async fn narrow(&self, until: DateTime<Utc>) -> Result<(), Error> {
        closer(self.server)
            .await
            .narrow(self.role.name(), until)
            .await
    }
}

impl<R: Openable> OpenableRole for Call<'_, R> {
    async fn login(&self) -> Result<LoginSeen, Error> {
        let state = opener(self.server)
            .await
            .role_state(self.role.name())
            .await?;
        Ok(LoginSeen {
            can_login: state.can_login,
            valid_until: match state.valid_until {
                ValidUntil::At(at) => Some(at),
                ValidUntil::Always | ValidUntil::Never => None,
            },
        })
    }

    async fn open(&self, until: DateTime<Utc>) -> Result<bool, Error> {
        let connection = opener(self.server).await;
        match self.role.open_on(&connection, until).await {
            Ok(()) => Ok(true),
            Err(Error::ClosedByHand { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn extend(&self, until: DateTime<Utc>) -> Result<(), Error> {
        opener(self.server)
            .await
            .extend(self.role.name(), until)
            .await
    }
}

/// What enable-login does for an armed window.
async fn enable(
    table: &Table,
    server: &LocalPostgres,
    role: &impl Openable,
    id: &RequestId,
) -> Result<Opening, Error> {
    let call = Call::new(table, server, role, &server.accounts().opener);
    let seen = call.login().await?;
    carry_out::open(&call, &call, id, seen).await
}

/// What disable-login does, the record in the table included.
async fn disable(
    table: &Table,
    server: &LocalPostgres,
    role: &impl Openable,
    id: &RequestId,
) -> Result<Closing<ProofOfClosing>, Error> {
    let call = Call::new(table, server, role, &server.accounts().closer);
    let closing = carry_out::close(&call, &call, Some(id)).await?;
    if !matches!(closing, Closing::NotYet { .. }) {
        table.remove(id);
    }
    Ok(closing)
}

fn is_opened(opening: &Result<Opening, Error>) -> bool {
    matches!(opening, Ok(Opening::Opened { .. }))
}

/// Somebody holds the role's row, and an opening waits for it.
async fn an_opening_waits(server: &LocalPostgres) {
    eventually("the opening waits for the lock", async || {
        let waiting: i64 = superuser(server)
            .await
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE usename = 'latchkey_opener' AND wait_event_type = 'Lock' AND query LIKE '%latchkey.%'",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        waiting > 0
    })
    .await;
}

/// The role's own session holds its row.
async fn hold_own_row(session: &Client) {
    session
        .batch_execute("BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_revocation_between_reading_and_committing_ends_closed() {
    for major in majors() {
        // Of its own, because it looks for whoever waits for a lock.
        let server = &start(*major).await;
        for release in ["ROLLBACK", "COMMIT"] {
            let role = new_role(server).await;
            let table = Table::default();
            let first = table.arm(TimeDelta::hours(1));
            assert!(is_opened(&enable(&table, server, &role, &first).await));
            let blocker = session(server, &role).await;
            hold_own_row(&blocker).await;

            let second = table.arm(TimeDelta::hours(2));
            let revoking = async {
                an_opening_waits(server).await;
                table.revoke(&first);
                table.revoke(&second);
                blocker.batch_execute(release).await.unwrap();
            };
            let (opening, ()) = tokio::join!(enable(&table, server, &role, &second), revoking);
            assert!(!is_opened(&opening), "{release}: {opening:?}");
            assert!(!can_log_in(server, &role).await, "{release}");
            assert!(!is_alive(&blocker).await, "{release}");
            assert_eq!(n_sessions(server, &role).await, 0, "{release}");
        }
    }
}

#[tokio::test]
async fn an_opening_that_waited_past_its_end_gives_nothing() {
    for major in majors() {
        let server = &start(*major).await;
        let role = new_role(server).await;
        let table = Table::default();
        let id = table.arm(TimeDelta::seconds(3));
        let end = table.row(&id).unwrap().window.end();
        let dba = master(server).await;
        dba.batch_execute(&format!(
            "BEGIN; ALTER ROLE {} CONNECTION LIMIT 3",
            quoted(&role.user)
        ))
        .await
        .unwrap();
        let releasing = async {
            an_opening_waits(server).await;
            eventually("the window is over", async || Utc::now() > end).await;
            dba.batch_execute("ROLLBACK").await.unwrap();
        };
        let (opening, ()) = tokio::join!(enable(&table, server, &role, &id), releasing);
        assert!(
            matches!(opening, Err(Error::WindowOutOfRange { .. })),
            "{opening:?}"
        );
        let state = opener(server).await.role_state(&role.user).await.unwrap();
        assert!(!state.can_login);
    }
}

#[tokio::test]
async fn opening_late_twice_or_again_gives_nothing_more() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let table = Table::default();
        let id = table.arm(TimeDelta::hours(1));
        let until = table.row(&id).unwrap().window.end();
        let twice = tokio::join!(
            enable(&table, server, &role, &id),
            enable(&table, server, &role, &id)
        );
        // One of two at the same moment may be told to try again.
        assert!(is_opened(&twice.0) || is_opened(&twice.1), "{twice:?}");
        let again = enable(&table, server, &role, &id).await;
        assert_eq!(again.unwrap(), Opening::Opened { until });

        table.revoke(&id);
        let redriven = enable(&table, server, &role, &id).await;
        assert_eq!(redriven.unwrap(), Opening::Over);
        let closed = disable(&table, server, &role, &id).await.unwrap();
        assert!(matches!(closed, Closing::Proved(_)), "{closed:?}");
        let redriven = enable(&table, server, &role, &id).await;
        assert_eq!(redriven.unwrap(), Opening::Over);
        assert!(!can_log_in(server, &role).await);

        let late = table.arm(TimeDelta::seconds(1));
        let end = table.row(&late).unwrap().window.end();
        eventually("the window is over", async || Utc::now() > end).await;
        let opening = enable(&table, server, &role, &late).await;
        assert_eq!(opening.unwrap(), Opening::Over);
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn two_windows_that_open_at_once_have_the_later_end() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        for _ in 0..5 {
            let table = Table::default();
            let (short, long) = (
                table.arm(TimeDelta::hours(1)),
                table.arm(TimeDelta::hours(2)),
            );
            let until = table.row(&long).unwrap().window.end();
            let mut to_open = vec![&short, &long];
            while !to_open.is_empty() {
                let calls = to_open.iter().map(|id| enable(&table, server, &role, id));
                let openings = join_all(calls).await;
                let mut openings = openings.iter();
                to_open.retain(|_| !is_opened(openings.next().unwrap()));
            }
            let end = ValidUntil::At(until);
            let state = opener(server).await.role_state(&role.user).await.unwrap();
            assert!(state.can_login);
            assert_eq!(state.valid_until, end);

            // The longer one is ended early: what is left is the shorter one's end.
            table.revoke(&long);
            let ended = disable(&table, server, &role, &long).await.unwrap();
            let until = table.row(&short).unwrap().window.end();
            assert_eq!(ended, Closing::StillOpen { until });
            let state = opener(server).await.role_state(&role.user).await.unwrap();
            assert!(state.can_login);
            assert_eq!(state.valid_until, ValidUntil::At(until));
            table.revoke(&short);
            let closed = disable(&table, server, &role, &short).await.unwrap();
            assert!(matches!(closed, Closing::Proved(_)), "{closed:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_closing_never_cuts_a_window_that_opens_at_the_same_moment() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let is_open = async || can_log_in(server, &role).await;
        open_while_another_is_closed(server, &role, is_open).await;
        let membership = new_membership(server).await;
        let is_open = async || can_act(server, &membership).await;
        open_while_another_is_closed(server, &membership, is_open).await;
    })
    .await;
}

async fn open_while_another_is_closed(
    server: &LocalPostgres,
    role: &impl Openable,
    is_open: impl AsyncFn() -> bool,
) {
    let table = Table::default();
    let mut before = table.arm(TimeDelta::hours(1));
    assert!(is_opened(&enable(&table, server, role, &before).await));
    for round in 0..8 {
        table.revoke(&before);
        let opening = async {
            sleep(Duration::from_millis(30 * round)).await;
            let next = table.arm(TimeDelta::hours(1));
            while !is_opened(&enable(&table, server, role, &next).await) {
                sleep(Duration::from_millis(20)).await;
            }
            next
        };
        let closing = disable(&table, server, role, &before);
        let (closing, next) = tokio::join!(closing, opening);
        closing.unwrap();
        assert!(is_open().await, "round {round}");
        before = next;
    }
    table.revoke(&before);
    disable(&table, server, role, &before).await.unwrap();
    assert!(!is_open().await);
}

#[tokio::test]
async fn a_nologin_by_hand_is_never_undone() {
    for major in majors() {
        let server = &start(*major).await;
        let role = new_role(server).await;
        let table = Table::default();
        let nologin = format!("ALTER ROLE {} NOLOGIN", quoted(&role.user));
        let first = table.arm(TimeDelta::hours(1));
        assert!(is_opened(&enable(&table, server, &role, &first).await));

        // While another window is being opened, at the same moment.
        let dba = master(server).await;
        dba.batch_execute(&format!("BEGIN; {nologin}"))
            .await
            .unwrap();
        let second = table.arm(TimeDelta::hours(2));
        let taking = async {
            an_opening_waits(server).await;
            dba.batch_execute("COMMIT").await.unwrap();
        };
        let (opening, ()) = tokio::join!(enable(&table, server, &role, &second), taking);
        assert!(!is_opened(&opening), "{opening:?}");
        for id in [&second, &first] {
            let again = enable(&table, server, &role, id).await;
            assert_eq!(again.unwrap(), Opening::ClosedByHand);
        }
        assert!(!can_log_in(server, &role).await);

        // Even if the opening died before it could write down that it had opened.
        table.change(&first, |row| row.opened_at = None);
        for id in [&second, &first] {
            let again = enable(&table, server, &role, id).await;
            assert_eq!(again.unwrap(), Opening::ClosedByHand);
        }
        assert!(!can_log_in(server, &role).await);

        // Whoever took it may give it, and it can be opened again after a closing.
        dba.query_one(
            "SELECT latchkey.open_by_hand($1, now() + interval '1 hour', 'outage')",
            &[&role.user],
        )
        .await
        .unwrap();
        assert!(can_log_in(server, &role).await);
        for id in [&first, &second] {
            table.revoke(id);
            disable(&table, server, &role, id).await.unwrap();
        }
        let third = table.arm(TimeDelta::hours(1));
        assert!(is_opened(&enable(&table, server, &role, &third).await));
        close(server, &role).await.unwrap();
    }
}

/// Random windows that overlap; calls that are made twice, die half-way and are made again; all at once and for real.
#[tokio::test]
async fn random_windows_are_open_while_one_covers_and_closed_in_the_end() {
    on_each_version(async |server| {
        for seed in 1..=3 {
            let role = new_role(server).await;
            random_windows(server, &role, seed).await;
            assert!(!can_log_in(server, &role).await, "seed {seed}");
            let membership = new_membership(server).await;
            random_windows(server, &membership, seed).await;
            assert!(!can_act(server, &membership).await, "seed {seed}");
        }
    })
    .await;
}

async fn random_windows(server: &LocalPostgres, role: &impl Openable, seed: u64) {
    let table = Table::default();
    let mut chance = Chance(seed);
    let windows: Vec<_> = (0..3)
        .map(|_| {
            (
                chance.below(3_000),
                1_000 + chance.below(4_000),
                chance.below(1_000),
            )
        })
        .collect();
    let flows = windows.iter().map(|&(start, length, chance)| {
        whole_window(server, role, &table, start, length, Chance(chance + 1))
    });
    join_all(flows).await;
    let state = closer(server).await.role_state(role.name()).await.unwrap();
    assert!(state.is_closed(), "seed {seed}: {state:?}");
    assert!(table.rows.lock().unwrap().is_empty());
}

/// The state machine of one window, its functions dying now and then.
async fn whole_window(
    server: &LocalPostgres,
    role: &impl Openable,
    table: &Table,
    start_millis: u64,
    length_millis: u64,
    mut chance: Chance,
) {
    sleep(Duration::from_millis(start_millis)).await;
    let id = table.arm(TimeDelta::milliseconds(
        i64::try_from(length_millis).unwrap(),
    ));
    let end = table.row(&id).unwrap().window.end();
    let started = Instant::now();
    let mut opened = false;
    while !opened && Utc::now() < end {
        let dies_after = Duration::from_millis(20 + chance.below(400));
        // A function that dies is a future that is dropped, its connection cut.
        if let Ok(opening) = timeout(dies_after, enable(table, server, role, &id)).await {
            opened = is_opened(&opening);
        }
    }
    while opened && Utc::now() + TimeDelta::milliseconds(300) < end {
        let state = closer(server).await.role_state(role.name()).await.unwrap();
        if Utc::now() < end {
            let ValidUntil::At(until) = state.valid_until else {
                panic!("{state:?}")
            };
            assert!(state.can_login && until >= end, "cut: {state:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    let left = (end - Utc::now()).to_std().unwrap_or_default();
    sleep(left).await;
    for n_tries in 1.. {
        let twice = async {
            tokio::join!(
                disable(table, server, role, &id),
                disable(table, server, role, &id)
            )
        };
        let dies_after = Duration::from_millis(n_tries * (100 + chance.below(3_000)));
        let ended = timeout(dies_after, twice).await;
        if table.row(&id).is_none() {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "never closed: {ended:?}"
        );
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
