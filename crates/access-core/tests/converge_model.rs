//! Converge against a model: random windows that overlap, functions that fail, die and run twice at once, in any order
//! of their steps. A role must be open exactly when a window covers now.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use access_core::converge::carry_out::{
    self, ClosableRole, Closing, LONGEST_CLOSING, LONGEST_STATEMENT, LoginSeen, OpenableRole,
    Opening, WindowList, Windows,
};
use access_core::converge::{Desired, desired};
use access_core::{RequestId, Window, WindowRow};
use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;

/// The time limit of enable-login.
const LONGEST_OPENING: Duration = Duration::seconds(90);

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// Everything that functions share: the table, the database, and the time.
struct World {
    now: DateTime<Utc>,
    rows: BTreeMap<RequestId, WindowRow>,
    announced: BTreeMap<usize, DateTime<Utc>>,
    n_readings: usize,
    login: LoginSeen,
    /// Windows that were armed, or can never be.
    not_to_arm: BTreeSet<RequestId>,
    /// Windows for which LOGIN was committed.
    given: BTreeSet<RequestId>,
    /// Those of them from which it was taken by hand.
    taken_by_hand: BTreeSet<RequestId>,
}

impl World {
    fn rows(&self) -> Vec<WindowRow> {
        self.rows.values().cloned().collect()
    }
}

/// One call of a function: its view of the world, and how it goes wrong.
#[derive(Clone)]
struct Call {
    n: usize,
    id: RequestId,
    world: Arc<Mutex<World>>,
    /// Steps until one fails: before it did anything (even) or after it did (odd).
    fails_in: Arc<Mutex<Option<u8>>>,
}

#[derive(Debug)]
struct Broken;

/// Lets others run.
async fn step() {
    let mut passed = false;
    std::future::poll_fn(move |_| {
        if passed {
            return Poll::Ready(());
        }
        passed = true;
        Poll::Pending
    })
    .await;
}

impl Call {
    /// One step of one call: others may run before it, and it may fail before or after it took effect.
    async fn act<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, Broken> {
        step().await;
        let fails = {
            let mut fails_in = self.fails_in.lock().unwrap();
            match *fails_in {
                None => None,
                Some(n @ 0..=1) => {
                    *fails_in = None;
                    Some(n)
                }
                Some(n) => {
                    *fails_in = Some(n - 2);
                    None
                }
            }
        };
        if fails == Some(0) {
            return Err(Broken);
        }
        let value = effect(&mut self.world.lock().unwrap());
        if fails == Some(1) {
            Err(Broken)
        } else {
            Ok(value)
        }
    }
}

impl WindowList for Call {
    type Error = Broken;

    fn now(&self) -> DateTime<Utc> {
        self.world.lock().unwrap().now
    }

    async fn windows(&self) -> Result<Windows, Broken> {
        self.act(|world| {
            world.n_readings += 1;
            Windows {
                rows: world.rows(),
                closing_until: world.announced.values().max().copied(),
            }
        })
        .await
    }

    // That it cannot be announced is allowed to cut a window, so it does not fail here.
    async fn announce_closing(&self) {
        step().await;
        let mut world = self.world.lock().unwrap();
        let until = world.now + LONGEST_CLOSING + LONGEST_STATEMENT;
        world.announced.insert(self.n, until);
    }

    async fn withdraw_closing(&self) {
        let _ = self.act(|world| world.announced.remove(&self.n)).await;
    }

    async fn mark_opened(&self, id: &RequestId) -> Result<(), Broken> {
        self.act(|world| {
            let now = world.now;
            if let Some(row) = world.rows.get_mut(id) {
                row.opened_at.get_or_insert(now);
            }
        })
        .await
    }
}

impl ClosableRole for Call {
    type Error = Broken;
    type Proof = ();

    async fn close(&self) -> Result<(), Broken> {
        self.act(|world| {
            world.login = LoginSeen {
                can_login: false,
                valid_until: Some(DateTime::UNIX_EPOCH),
            };
        })
        .await?;
        for _quiet_round in 0..2 {
            if self.act(|world| world.login.can_login).await? {
                return Err(Broken);
            }
        }
        Ok(())
    }

    async fn narrow(&self, until: DateTime<Utc>) -> Result<(), Broken> {
        self.act(|world| {
            let end = &mut world.login.valid_until;
            *end = end.map(|end| end.min(until));
        })
        .await
    }
}

impl OpenableRole for Call {
    async fn login(&self) -> Result<LoginSeen, Broken> {
        self.act(|world| world.login).await
    }

    async fn open(&self, until: DateTime<Utc>) -> Result<bool, Broken> {
        self.act(|world| {
            // As `latchkey.open`: nothing past the end, and nothing that somebody took by hand.
            if until <= world.now {
                return Err(Broken);
            }
            if !world.login.can_login && world.login.valid_until > Some(world.now) {
                return Ok(false);
            }
            world.given.insert(self.id.clone());
            world.login = LoginSeen {
                can_login: true,
                valid_until: world.login.valid_until.max(Some(until)),
            };
            Ok(true)
        })
        .await?
    }

    async fn extend(&self, until: DateTime<Utc>) -> Result<(), Broken> {
        self.act(|world| {
            if until <= world.now {
                return Err(Broken);
            }
            if world.login.can_login {
                world.given.insert(self.id.clone());
            }
            world.login.valid_until = world.login.valid_until.max(Some(until));
            Ok(())
        })
        .await?
    }
}

/// What a call answers to the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Opened,
    NotYet,
    Refused,
    Ended,
    Failed,
}

/// What the state machine of a window does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeStart,
    Opening,
    Open,
    Closing,
    Done,
}

struct Flow {
    id: RequestId,
    window: Window,
    phase: Phase,
    n_tries: u8,
}

struct Running {
    flow: usize,
    is_opening: bool,
    started: DateTime<Utc>,
    call: Call,
    future: Pin<Box<dyn Future<Output = Answer>>>,
}

/// enable-login, as far as it matters here.
async fn enable(call: Call, id: RequestId, window: Window) -> Answer {
    let Ok(seen) = call.login().await else {
        return Answer::Failed;
    };
    let armed = call
        .act(|world| {
            if !world.not_to_arm.insert(id.clone()) {
                return world.rows.contains_key(&id);
            }
            let row = WindowRow {
                request_id: id.clone(),
                requester: None,
                window,
                opened_at: None,
                ended_at: None,
                ended_by: None,
                by_hand: false,
            };
            world.rows.insert(id.clone(), row);
            true
        })
        .await;
    match armed {
        Err(Broken) => return Answer::Failed,
        Ok(false) => return Answer::Refused,
        Ok(true) => {}
    }
    match carry_out::open(&call, &call, &id, seen).await {
        Ok(Opening::Opened { .. }) => Answer::Opened,
        Ok(Opening::NotYet) => Answer::NotYet,
        Ok(Opening::Over | Opening::ClosedByHand) => Answer::Refused,
        Ok(Opening::Restless) | Err(Broken) => Answer::Failed,
    }
}

/// disable-login, as far as it matters here.
async fn disable(call: Call, id: RequestId) -> Answer {
    let closing = carry_out::close(&call, &call, Some(&id)).await;
    match closing {
        Ok(Closing::NotYet { .. }) => Answer::NotYet,
        Err(Broken) => Answer::Failed,
        Ok(Closing::StillOpen { .. } | Closing::Proved(())) => {
            if carry_out::covered_until(&call).await.is_err() {
                return Answer::Failed;
            }
            match call.act(|world| world.rows.remove(&id)).await {
                Ok(_) => Answer::Ended,
                Err(Broken) => Answer::Failed,
            }
        }
    }
}

/// Where the randomness comes from; when it is used up, nothing goes wrong any more.
struct Chance(std::vec::IntoIter<u8>);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, usize::from) % n
    }

    /// About once in `n`.
    fn once_in(&mut self, n: u8) -> bool {
        self.0.next().is_some_and(|chance| chance % n == n - 1)
    }
}

struct Simulation {
    world: Arc<Mutex<World>>,
    flows: Vec<Flow>,
    running: Vec<Running>,
    n_calls: usize,
    /// Whether an opening ended without having taken back what it gave. If its window was closed meanwhile, nobody
    /// else comes for that but reconcile.
    opening_broke: bool,
    chance: Chance,
}

impl Simulation {
    fn new(windows: &[(i64, i64)], chance: Vec<u8>) -> Self {
        let flows = windows
            .iter()
            .enumerate()
            .map(|(n, &(start, length))| Flow {
                id: RequestId::of_execution("arn", i64::try_from(n).unwrap()),
                window: Window::new(at(start), at(start + length)).unwrap(),
                phase: Phase::BeforeStart,
                n_tries: 0,
            });
        let world = World {
            now: at(-1),
            rows: BTreeMap::new(),
            announced: BTreeMap::new(),
            n_readings: 0,
            login: LoginSeen {
                can_login: false,
                valid_until: None,
            },
            not_to_arm: BTreeSet::new(),
            given: BTreeSet::new(),
            taken_by_hand: BTreeSet::new(),
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            flows: flows.collect(),
            running: Vec::new(),
            n_calls: 0,
            opening_broke: false,
            chance: Chance(chance.into_iter()),
        }
    }

    fn start_call(&mut self, flow: usize) {
        let Flow {
            id, window, phase, ..
        } = &self.flows[flow];
        let call = Call {
            n: self.n_calls,
            id: id.clone(),
            world: Arc::clone(&self.world),
            fails_in: Arc::new(Mutex::new(
                self.chance
                    .once_in(3)
                    .then(|| u8::try_from(self.chance.below(24)).unwrap()),
            )),
        };
        self.n_calls += 1;
        let is_opening = *phase == Phase::Opening;
        let future: Pin<Box<dyn Future<Output = Answer>>> = if is_opening {
            Box::pin(enable(call.clone(), id.clone(), *window))
        } else {
            Box::pin(disable(call.clone(), id.clone()))
        };
        let started = self.world.lock().unwrap().now;
        self.running.push(Running {
            flow,
            is_opening,
            started,
            call,
            future,
        });
    }

    /// Lets every state machine do what it does now.
    fn start_calls(&mut self) {
        let now = self.world.lock().unwrap().now;
        for flow in 0..self.flows.len() {
            let Flow { window, phase, .. } = self.flows[flow];
            match phase {
                Phase::BeforeStart if now >= window.start() => {
                    self.flows[flow].phase = Phase::Opening;
                }
                Phase::Open if now >= window.end() => self.flows[flow].phase = Phase::Closing,
                _ => {}
            }
            let phase = self.flows[flow].phase;
            let is_called = self.running.iter().any(|running| {
                running.flow == flow && running.is_opening == (phase == Phase::Opening)
            });
            if !is_called && matches!(phase, Phase::Opening | Phase::Closing) {
                self.start_call(flow);
                // Lambda may call twice, and the schedule closes beside the execution.
                if self.chance.once_in(4) {
                    self.start_call(flow);
                }
            }
        }
    }

    /// Polls one call; what it answers moves its state machine.
    fn poll(&mut self, n: usize) {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = self.running[n].future.as_mut().poll(&mut context) {
            let ended = self.running.remove(n);
            self.answered(ended.flow, ended.is_opening, answer);
        }
        self.check_that_nobody_was_cut();
    }

    fn answered(&mut self, n: usize, is_opening: bool, answer: Answer) {
        self.opening_broke |= is_opening && answer == Answer::Failed;
        let flow = &mut self.flows[n];
        if is_opening != (flow.phase == Phase::Opening) {
            // The second of two calls: its answer is heard by nobody.
            return;
        }
        match answer {
            Answer::Opened => flow.phase = Phase::Open,
            Answer::NotYet => {}
            Answer::Refused => self.end_early(n),
            Answer::Ended => flow.phase = Phase::Done,
            Answer::Failed if flow.phase == Phase::Opening => {
                flow.n_tries += 1;
                if flow.n_tries == 4 {
                    self.end_early(n);
                }
            }
            // Closing does not give up.
            Answer::Failed => {}
        }
    }

    /// Ends a window before its end, as an operator or the state machine does.
    fn end_early(&mut self, n: usize) {
        let mut world = self.world.lock().unwrap();
        let now = world.now;
        let flow = &mut self.flows[n];
        world.not_to_arm.insert(flow.id.clone());
        if let Some(row) = world.rows.get_mut(&flow.id) {
            row.ended_at.get_or_insert(now);
        }
        if matches!(flow.phase, Phase::Opening | Phase::Open) {
            flow.phase = Phase::Closing;
        }
    }

    /// The database's owner takes LOGIN.
    fn take_by_hand(&mut self) {
        let mut world = self.world.lock().unwrap();
        if world.login.can_login {
            world.login.can_login = false;
            world.taken_by_hand = world.given.clone();
        }
    }

    fn is_taken_by_hand(world: &World) -> bool {
        world
            .taken_by_hand
            .iter()
            .any(|id| world.rows.get(id).is_some_and(|row| row.covers(world.now)))
    }

    fn check_that_nobody_was_cut(&self) {
        let world = self.world.lock().unwrap();
        let is_taken = Self::is_taken_by_hand(&world);
        assert!(
            !(is_taken && world.login.can_login),
            "a NOLOGIN by hand was undone"
        );
        for flow in self.flows.iter().filter(|flow| flow.phase == Phase::Open) {
            let covers = world
                .rows
                .get(&flow.id)
                .is_some_and(|row| row.covers(world.now));
            if covers && !is_taken && world.taken_by_hand.is_empty() {
                assert!(world.login.can_login, "an open window was cut");
                assert!(
                    world.login.valid_until >= Some(flow.window.end()),
                    "the end of an open window was cut"
                );
            }
        }
    }

    fn advance_to(&mut self, second: i64) {
        let now = at(second);
        self.world.lock().unwrap().now = now;
        // Lambda kills what takes too long; whoever called is told that it failed.
        while let Some(n) = self.running.iter().position(|running| {
            let limit = if running.is_opening {
                LONGEST_OPENING
            } else {
                LONGEST_CLOSING
            };
            now - running.started >= limit
        }) {
            self.kill(n);
        }
        // The end counts, whatever the calls are doing.
        self.start_calls();
    }

    fn kill(&mut self, n: usize) {
        let killed = self.running.remove(n);
        self.answered(killed.flow, killed.is_opening, Answer::Failed);
    }

    /// Some steps of some calls, and what people do meanwhile.
    fn run_a_while(&mut self) {
        for _ in 0..self.chance.below(60) {
            self.start_calls();
            if self.running.is_empty() {
                break;
            }
            let n = self.chance.below(self.running.len());
            if self.chance.once_in(50) {
                self.kill(n);
            } else {
                self.poll(n);
            }
            if self.chance.once_in(40) {
                let n = self.chance.below(self.flows.len());
                self.end_early(n);
            }
            if self.chance.once_in(120) {
                self.take_by_hand();
            }
        }
    }

    /// reconcile's next round, as far as it matters here: it closes what no window covers.
    fn reconcile(&mut self) {
        let call = Call {
            n: self.n_calls,
            id: self.flows[0].id.clone(),
            world: Arc::clone(&self.world),
            fails_in: Arc::new(Mutex::new(None)),
        };
        self.n_calls += 1;
        let mut round = std::pin::pin!(carry_out::close(&call, &call, None));
        let mut context = Context::from_waker(Waker::noop());
        while round.as_mut().poll(&mut context).is_pending() {}
    }

    /// Lets everything come to rest at this instant, nothing going wrong, and compares with the model.
    fn settle(&mut self) {
        for running in &self.running {
            *running.call.fails_in.lock().unwrap() = None;
        }
        let chance = std::mem::replace(&mut self.chance, Chance(Vec::new().into_iter()));
        for _ in 0..2_000 {
            self.start_calls();
            if self.running.is_empty() {
                break;
            }
            self.poll(0);
        }
        self.chance = chance;
        // Only then, so that openings that do not break must leave nothing to it.
        if std::mem::take(&mut self.opening_broke) {
            self.reconcile();
        }
        let world = self.world.lock().unwrap();
        let rows = world.rows();
        let waits_for_the_dead = world.announced.values().any(|until| world.now < *until);
        if Self::is_taken_by_hand(&world) || waits_for_the_dead {
            return;
        }
        match desired(&rows, world.now) {
            Desired::Closed => assert!(!world.login.can_login, "open, and no window covers"),
            Desired::Open { until } => {
                let opened = self.flows.iter().any(|flow| flow.phase == Phase::Open);
                assert!(opened, "a window covers, and nobody opened it");
                if world.taken_by_hand.is_empty() {
                    assert!(world.login.can_login, "closed, and a window covers");
                    assert_eq!(world.login.valid_until, Some(until));
                }
            }
        }
    }
}

impl Simulation {
    /// One window, and one call to enable-login that has taken this many steps.
    fn half_opened(n_steps: usize) -> Self {
        let mut simulation = Self::new(&[(0, 10)], Vec::new());
        simulation.advance_to(5);
        for _ in 0..n_steps {
            if !simulation.running.is_empty() {
                simulation.poll(0);
            }
        }
        simulation
    }

    /// The rest of that call, and nothing else.
    fn finish_opening(&mut self) {
        while !self.running.is_empty() {
            self.poll(0);
        }
    }
}

#[test]
fn an_end_between_reading_and_committing_is_taken_back_at_whichever_step_it_comes() {
    let whole = {
        let mut simulation = Simulation::half_opened(0);
        simulation.finish_opening();
        assert_eq!(simulation.flows[0].phase, Phase::Open);
        let n_readings = simulation.world.lock().unwrap().n_readings;
        assert_eq!(n_readings, 2);
        n_readings
    };
    let mut n_taken_back = 0;
    for n_steps in 0..20 {
        for is_revoked in [true, false] {
            let mut simulation = Simulation::half_opened(n_steps);
            let (was_given, was_read) = {
                let mut world = simulation.world.lock().unwrap();
                if is_revoked {
                    let now = world.now;
                    for row in world.rows.values_mut() {
                        row.ended_at = Some(now);
                    }
                } else {
                    world.now = at(10);
                }
                (world.login.can_login, world.n_readings)
            };
            let is_armed = !simulation.world.lock().unwrap().rows.is_empty();
            simulation.finish_opening();
            if is_armed && was_read < whole {
                assert_ne!(
                    simulation.flows[0].phase,
                    Phase::Open,
                    "after {n_steps} steps"
                );
                assert!(!simulation.world.lock().unwrap().login.can_login);
                n_taken_back += usize::from(was_given);
            }
        }
    }
    assert!(n_taken_back > 0);
}

#[test]
fn a_role_that_was_opened_since_it_was_looked_at_was_not_closed_by_hand() {
    let mut simulation = Simulation::new(&[(0, 10), (0, 20)], Vec::new());
    simulation.advance_to(5);
    // The second one looks at the role, and then the first one opens it.
    for n in [1, 1, 0] {
        simulation.poll(n);
    }
    while simulation.running.len() == 2 {
        simulation.poll(0);
    }
    assert_eq!(simulation.flows[0].phase, Phase::Open);
    simulation.finish_opening();
    assert_eq!(simulation.flows[1].phase, Phase::Open);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn a_role_is_open_exactly_when_a_window_covers_now(
        windows in prop::collection::vec((0i64..900, 1i64..400), 1..7),
        instants in prop::collection::btree_set(0i64..1_300, 1..14),
        chance in prop::collection::vec(any::<u8>(), 0..1_500),
    ) {
        let mut simulation = Simulation::new(&windows, chance);
        for second in instants {
            simulation.advance_to(second);
            simulation.run_a_while();
            if simulation.chance.once_in(3) {
                simulation.settle();
            }
        }
        // After the last announcement of a dead closing has lapsed.
        simulation.advance_to(1_500);
        simulation.settle();
        let world = simulation.world.lock().unwrap();
        prop_assert!(!world.login.can_login);
        prop_assert!(world.rows.is_empty());
    }
}
