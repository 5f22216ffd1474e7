//! Each fault at each operation of a store, under each choice of what is done without it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::Clock;
use buttress_rate_limiter::{
    Bandwidth, Event, EventKind, Quota, SharedRateLimiter, SharedRateLimiterBuilder, WhenDown,
    store::{Answer, Ask, MemoryStore, Store},
};
use buttress_store::{Deadline, Gate, Key, Phase, StoreError, StoreErrorKind};
use buttress_testkit::{
    fault::{Fault, Injected, Injection, Plan},
    fault_sweep,
};
use tokio::time::sleep;

const BURST: u64 = 10;
const SLICE: u64 = 4;

/// What it is handed goes wrong when it is told to. What hangs is ended by the deadline it was given.
#[derive(Debug)]
struct Faulty {
    inner: Arc<MemoryStore>,
    plan: Plan<StoreError>,
}

impl Faulty {
    async fn around<T>(
        &self,
        name: &'static str,
        deadline: Deadline,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let around = self.plan.around(name, operation);
        deadline.run(Phase::Statement, around).await
    }
}

#[async_trait]
impl Store for Faulty {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let decide = self.inner.decide(key, ask, deadline);
        self.around("decide", deadline, decide).await
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        let forget = self.inner.forget(key, deadline);
        self.around("forget", deadline, forget).await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        let prune = self.inner.prune(most, deadline);
        self.around("prune", deadline, prune).await
    }
}

fn store_error(injected: Injected) -> StoreError {
    match injected.may_have_been_done() {
        true => StoreError::new(StoreErrorKind::Lost, Phase::Statement),
        false => StoreError::new(StoreErrorKind::Unreachable, Phase::Connect),
    }
}

struct Stand {
    inner: Arc<MemoryStore>,
    plan: Plan<StoreError>,
    limiter: SharedRateLimiter,
    heard: Arc<Mutex<Vec<EventKind>>>,
}

impl Stand {
    fn new(
        plan: Plan<StoreError>,
        choose: impl FnOnce(SharedRateLimiterBuilder) -> SharedRateLimiterBuilder,
    ) -> Self {
        let inner = Arc::new(MemoryStore::new());
        let store = Faulty {
            inner: Arc::clone(&inner),
            plan: plan.clone(),
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let quota = Quota::new(Bandwidth::per_day(1).burst(BURST)).unwrap();
        let builder = SharedRateLimiter::builder("faults", quota, store)
            .gate(Gate::redis())
            .observer(move |event: &Event| hears.lock().unwrap().push(event.kind));
        Self {
            inner,
            plan,
            limiter: choose(builder).build().unwrap(),
            heard,
        }
    }

    /// What the store would still give, by a handle without faults.
    async fn left(&self) -> u64 {
        let store = Arc::clone(&self.inner);
        let other = SharedRateLimiter::new("faults", self.limiter.quota(), store).unwrap();
        other.peek_n("one", 0).await.unwrap().remaining()
    }

    /// Asks so often, and says how many were let through and how many ended in an error. None takes longer
    /// than the deadline; two in a row never pay it.
    async fn asks(&self, times: u64) -> (u64, u64) {
        let clock = Clock::tokio();
        let (mut allowed, mut errors) = (0, 0);
        for _ in 0..times {
            let mut paid = 0;
            for _ in 0..2 {
                let before = clock.now();
                match self.limiter.check("one").await {
                    Ok(decision) => allowed += u64::from(decision.is_allowed()),
                    Err(_) => errors += 1,
                }
                let took = clock.now().saturating_since(before);
                assert!(took <= Deadline::REDIS, "{took:?}");
                paid += u32::from(took == Deadline::REDIS);
            }
            assert!(paid <= 1, "the deadline was paid twice");
            // Longer than a pause of the gate.
            sleep(Duration::from_millis(1100)).await;
        }
        (allowed, errors)
    }

    /// One fault is one outage: told at its begin and at its end, and it has an end.
    async fn judge_events(&self) {
        // Struck at the very last question, it is not known yet that the store is back.
        if self.limiter.is_store_down() {
            let _known = self.limiter.peek_n("one", 0).await;
        }
        assert!(!self.limiter.is_store_down());
        let heard = self.heard.lock().unwrap();
        let count = |wanted: fn(&EventKind) -> bool| heard.iter().filter(|it| wanted(it)).count();
        let failed = count(|it| matches!(it, EventKind::StoreFailed { .. }));
        let recovered = count(|it| matches!(it, EventKind::StoreRecovered));
        assert_eq!(failed, recovered);
        assert!(failed <= 1, "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_gives_out_nothing_twice_when_closed() {
    let _tally = buttress_testkit::tally::suite("X2");
    let injected = fault_sweep(&Fault::ALL, store_error, async |plan| {
        let stand = Stand::new(plan, |it| it.when_down(WhenDown::Closed));
        let (allowed, errors) = stand.asks(8).await;
        // A permit whose answer was lost is lost. While the store is left alone, two are turned away.
        assert!((BURST - 1..=BURST).contains(&allowed), "{allowed}");
        assert!(errors <= 2, "{errors}");
        assert_eq!(stand.left().await, 0);
        stand.judge_events().await;
    })
    .await;
    assert_eq!(injected, 16 * 6);
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_costs_what_goes_on_locally_and_no_more() {
    let _tally = buttress_testkit::tally::suite("X2");
    for (when_down, extra) in [(WhenDown::Local, 2), (WhenDown::Open, 2)] {
        fault_sweep(&Fault::ALL, store_error, async |plan| {
            let stand = Stand::new(plan, |it| it.when_down(when_down));
            let (allowed, errors) = stand.asks(8).await;
            assert_eq!(errors, 0);
            let most = BURST + extra;
            assert!((BURST..=most).contains(&allowed), "{allowed}");
            assert_eq!(stand.left().await, 0);
            stand.judge_events().await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_loses_a_slice_at_most_and_gives_none_twice() {
    let _tally = buttress_testkit::tally::suite("X2");
    let injected = fault_sweep(&Fault::ALL, store_error, async |plan| {
        let stand = Stand::new(plan, |it| {
            it.when_down(WhenDown::Closed)
                .lease(SLICE, Duration::from_secs(60))
        });
        let (allowed, _) = stand.asks(12).await;
        assert!((BURST - SLICE..=BURST).contains(&allowed), "{allowed}");
        assert_eq!(stand.left().await, 0);
        stand.judge_events().await;
    })
    .await;
    assert_eq!(injected, 4 * 6);
}

/// What is done beside taking: each is done, or not done and said so.
#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_is_an_error_or_makes_no_difference() {
    let _tally = buttress_testkit::tally::suite("X2");
    let injected = fault_sweep(&Fault::ALL, store_error, async |plan| {
        let stand = Stand::new(plan, |it| it.when_down(WhenDown::Closed));
        let limiter = &stand.limiter;
        let pause = Duration::from_millis(1100);
        let mut owed = [0, 0];
        let mut note = |done: bool, sign: i64| {
            // An error leaves it done or not done.
            let range = if done {
                [sign, sign]
            } else {
                [sign.min(0), sign.max(0)]
            };
            owed = [owed[0] + range[0], owed[1] + range[1]];
        };
        note(limiter.force("one", 3).await.is_ok(), 3);
        sleep(pause).await;
        note(limiter.check_n("one", 4).await.is_ok(), 4);
        sleep(pause).await;
        note(limiter.give_back("one", 2).await.is_ok(), -2);
        sleep(pause).await;
        let peeked = limiter.peek_n("one", 1).await;
        sleep(pause).await;
        let pruned = limiter.prune(10).await;
        sleep(pause).await;
        let left = i64::try_from(stand.left().await).unwrap();
        let burst = i64::try_from(BURST).unwrap();
        assert!(
            (burst - owed[1]..=burst - owed[0]).contains(&left),
            "{left}: {owed:?}"
        );
        if let Ok(peeked) = peeked {
            assert_eq!(i64::try_from(peeked.remaining()).unwrap(), left);
        }
        assert!(pruned.is_err() || pruned.unwrap() == 0, "none is idle");
        let reset = limiter.reset("one").await;
        sleep(pause).await;
        if reset.is_ok() {
            assert_eq!(stand.left().await, BURST);
        }
    })
    .await;
    assert_eq!(injected, 6 * 6);
}

/// A store that is gone for good: the deadline is paid more and more seldom, and the local limit holds.
#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_again_is_asked_ever_more_seldom() {
    let plan = Plan::new(
        (2..10_000).map(|at| Injection::new(at, Fault::Hang)),
        store_error,
    );
    let stand = Stand::new(plan, |it| it);
    let (clock, mut slow) = (Clock::tokio(), 0);
    let mut allowed = 0;
    let begun = clock.now();
    while clock.now().saturating_since(begun) < Duration::from_secs(600) {
        let before = clock.now();
        let decision = stand.limiter.check("one").await.unwrap();
        allowed += u64::from(decision.is_allowed());
        slow += u32::from(clock.now() > before);
        sleep(Duration::from_millis(100)).await;
    }
    // One from the store, and a local burst.
    assert_eq!(allowed, 1 + BURST);
    assert!((20..=26).contains(&slow), "{slow}");
    assert_eq!(stand.plan.operations(), slow + 1);
}

/// Idle keys go in batches, at its times, and an outage delays it.
#[tokio::test(start_paused = true)]
async fn a_pruner_removes_what_is_idle_and_outlasts_an_outage() {
    let plan = Plan::new([Injection::new(31, Fault::Before)], store_error);
    let stand = Stand::new(plan, |it| it);
    let quota = Quota::new(Bandwidth::per_second(1)).unwrap();
    stand.limiter.set_quota(quota).unwrap();
    for key in 0..30 {
        assert!(
            stand
                .limiter
                .check(format!("{key}"))
                .await
                .unwrap()
                .is_allowed()
        );
    }
    let pruner = stand.limiter.pruner();
    assert!(pruner.clone().with(Duration::ZERO, 10).is_err());
    assert!(pruner.clone().with(Duration::from_secs(1), 0).is_err());
    let pruner = pruner.with(Duration::from_secs(60), 8).unwrap();
    pruner.run_until(sleep(Duration::from_secs(30))).await;
    // The first look met the fault, and the next one is not due.
    assert!(pruned(&stand).is_empty());
    pruner.run_until(sleep(Duration::from_secs(30))).await;
    assert_eq!(pruned(&stand), [8, 8, 8, 6]);
    assert!(stand.limiter.check("again").await.unwrap().is_allowed());
    assert_eq!(pruner.run_once().await.unwrap(), 0, "it is in use");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pruner.run_once().await.unwrap(), 1);
}

fn pruned(stand: &Stand) -> Vec<u64> {
    let heard = stand.heard.lock().unwrap();
    let keys = heard.iter().filter_map(|kind| match kind {
        EventKind::KeysPruned { keys, .. } => Some(*keys),
        _ => None,
    });
    keys.collect()
}
