//! Budgets that the instances of a fleet spend together: what they spend at most.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use buttress_core::{Clock, clock::ManualHand};
use buttress_retry_backoff::{Backoff, Budget, BudgetFleet, BudgetRule, Retry, RetryPolicy};
use buttress_store::board::{Board, MemoryBoard};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::RngExt as _;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// One instance, whose clock the test moves.
pub(crate) struct Instance {
    pub(crate) budget: Budget,
    retry: Retry,
    pub(crate) fleet: BudgetFleet,
    hand: ManualHand,
}

impl Instance {
    pub(crate) fn new(rule: BudgetRule, board: impl Board + 'static) -> Self {
        let (clock, hand) = Clock::manual();
        let budget = Budget::with_clock(rule, clock).unwrap();
        let policy = RetryPolicy::builder().attempts(2).backoff(Backoff::none());
        let retry = Retry::new("test", policy.build().unwrap()).with_budget(budget.clone());
        let fleet = BudgetFleet::builder("shop", board)
            .interval(Duration::from_millis(100))
            .build()
            .unwrap();
        fleet.add("payments", &budget).unwrap();
        Self {
            budget,
            retry,
            fleet,
            hand,
        }
    }

    /// One call that fails. How many retries it made: one or none.
    pub(crate) async fn fails(&self) -> u64 {
        let made = AtomicU32::new(0);
        let call = self.retry.call(async || {
            made.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(())
        });
        call.await.unwrap_err();
        u64::from(made.into_inner() - 1)
    }

    async fn succeeds(&self) {
        self.retry.call(async || Ok::<_, ()>(())).await.unwrap();
    }

    pub(crate) async fn round(&self) {
        self.fleet.run_once().await.unwrap();
    }
}

pub(crate) fn quota(capacity: u32) -> BudgetRule {
    BudgetRule::Quota {
        capacity,
        error: 1,
        timeout: 1,
        throttled: 1,
    }
}

fn reserve(per_second: u32) -> BudgetRule {
    BudgetRule::Tokens {
        ttl: 10 * SECOND,
        per_second,
        ratio: 0.0,
    }
}

fn throttle(max_tokens: u32) -> BudgetRule {
    BudgetRule::Throttle {
        max_tokens,
        ratio: 0.001,
    }
}

/// So many on one board, which have heard of one another.
async fn fleet(rule: BudgetRule, instances: u32) -> (Vec<Instance>, MemoryBoard) {
    let board = MemoryBoard::new();
    let instances: Vec<_> = (0..instances)
        .map(|_| Instance::new(rule, board.clone()))
        .collect();
    for _ in 0..3 {
        for instance in &instances {
            instance.round().await;
        }
    }
    (instances, board)
}

/// Rules with the retries that they pay for when nothing comes in.
fn rules() -> [(BudgetRule, u64); 4] {
    [
        (quota(60), 60),
        (reserve(6), 60),
        // At half there is none; each call that fails with its retry takes two tokens.
        (throttle(120), 60),
        (quota(3), 3),
    ]
}

#[tokio::test]
async fn one_after_another_a_fleet_spends_one_budget_and_a_retry_each_at_most() {
    for (rule, whole) in rules() {
        let (instances, _) = fleet(rule, 6).await;
        let mut spent = 0;
        for _ in 0..400 {
            for instance in &instances {
                spent += instance.fails().await;
                instance.round().await;
            }
        }
        // gRPC's rule takes tokens for the first attempts as well, so half are retries.
        let least = if matches!(rule, BudgetRule::Throttle { .. }) {
            whole / 2 - 6
        } else {
            whole
        };
        assert!(
            (least..whole + 6).contains(&spent),
            "{rule:?}: {spent} of {whole}"
        );
        for instance in &instances {
            assert_eq!(instance.budget.available(), 0);
        }
    }
}

#[tokio::test]
async fn whatever_they_do_between_exchanges_a_fleet_spends_at_most_two_budgets_and_a_retry_each() {
    let tally = buttress_testkit::tally::suite("RB4");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut worst = 0.0_f64;
    for _ in 0..short_or_long(20, 2_000) {
        for (rule, whole) in rules() {
            let count = rng.random_range(1..12_u32);
            let (instances, _) = fleet(rule, count).await;
            let mut spent = 0;
            let pushes = rng.random_range(1..60);
            for _ in 0..2_000 {
                let instance = &instances[rng.random_range(0..instances.len())];
                match rng.random_range(0..60) < pushes {
                    true => spent += instance.fails().await,
                    false => instance.round().await,
                }
            }
            let most = 2 * whole + u64::from(count);
            assert!(
                spent <= most,
                "{rule:?}, {count} instances: {spent} of {most}"
            );
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let times = spent as f64 / (whole + u64::from(count)) as f64;
            worst = worst.max(times);
        }
    }
    assert!(worst > 0.5, "nothing was spent");
    tally.operations(short_or_long(20, 2_000) * rules().len());
}

/// The same without a fleet: that is what it is for.
#[tokio::test]
async fn apart_they_spend_a_budget_each() {
    let mut spent = 0;
    for _ in 0..6 {
        let instance = Instance::new(quota(60), MemoryBoard::new());
        for _ in 0..100 {
            spent += instance.fails().await;
        }
    }
    assert_eq!(spent, 360);
}

#[tokio::test]
async fn what_one_brings_in_others_may_spend() {
    let rule = BudgetRule::Tokens {
        ttl: 60 * SECOND,
        per_second: 0,
        ratio: 0.5,
    };
    let (instances, _) = fleet(rule, 2).await;
    assert_eq!(instances[1].fails().await, 0, "half a token");
    for _ in 0..80 {
        instances[0].succeeds().await;
    }
    for _ in 0..2 {
        for instance in &instances {
            instance.round().await;
        }
    }
    let mut spent = 0;
    for _ in 0..30 {
        spent += instances[1].fails().await;
    }
    // Its part of the 40 tokens that the other has brought in, and what its own calls bring in.
    assert!((20..=36).contains(&spent), "{spent}");
}

#[tokio::test]
async fn calls_under_way_are_counted_together() {
    let rule = BudgetRule::Share {
        percent: 20,
        at_least: 1,
    };
    let (instances, _) = fleet(rule, 2).await;
    // Fifty calls are under way in the first.
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let retry = instances[0].retry.clone();
            tokio::spawn(async move {
                retry
                    .call(async || std::future::pending::<Result<(), ()>>().await)
                    .await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..2 {
        for instance in &instances {
            instance.round().await;
        }
    }
    assert_eq!(instances[1].budget.available(), 5, "its half of the ten");
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn what_comes_back_can_be_spent_again_and_what_expires_as_well() {
    let (instances, board) = fleet(quota(10), 2).await;
    for _ in 0..10 {
        instances[0].fails().await;
        for instance in &instances {
            instance.round().await;
        }
    }
    assert_eq!(instances[1].fails().await, 0);
    for _ in 0..6 {
        instances[0].succeeds().await;
    }
    for instance in &instances {
        instance.round().await;
    }
    assert!(instances[1].fails().await > 0);
    drop(board);
    let (instances, _) = fleet(reserve(1), 2).await;
    while instances[0].fails().await > 0 {}
    for instance in &instances {
        instance.hand.advance(10 * SECOND);
    }
    for _ in 0..2 {
        for instance in &instances {
            instance.round().await;
        }
    }
    assert!(instances[1].fails().await > 0);
}

#[tokio::test]
async fn rules_that_differ_are_budgets_of_their_own() {
    let board = MemoryBoard::new();
    let (one, other) = (
        Instance::new(quota(10), board.clone()),
        Instance::new(quota(11), board.clone()),
    );
    for _ in 0..3 {
        one.round().await;
        other.round().await;
    }
    assert_eq!((one.fleet.members(), other.fleet.members()), (1, 1));
    assert_eq!(one.budget.rule(), quota(10));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let builder = || BudgetFleet::builder("shop", MemoryBoard::new());
    for (built, field) in [
        (BudgetFleet::new("", MemoryBoard::new()), "name"),
        (BudgetFleet::new("ä", MemoryBoard::new()), "name"),
        (builder().interval(Duration::ZERO).build(), "interval"),
        (builder().interval(Duration::MAX).build(), "interval"),
        (builder().life_in_intervals(2).build(), "life_in_intervals"),
        (
            builder().life_in_intervals(1001).build(),
            "life_in_intervals",
        ),
    ] {
        assert_eq!(built.unwrap_err().field(), field);
    }
    let fleet = builder().build().unwrap();
    let budget = Budget::new(quota(1)).unwrap();
    for name in [String::new(), "x".repeat(101)] {
        assert_eq!(fleet.add(&name, &budget).unwrap_err().field(), "name");
    }
    fleet.add("a", &budget).unwrap();
    assert_eq!(fleet.add("b", &budget).unwrap_err().field(), "budget");
    let other = Budget::new(quota(1)).unwrap();
    assert_eq!(fleet.add("a", &other).unwrap_err().field(), "name");
    drop(budget);
    fleet.add("a", &other).unwrap();
    assert!(fleet.is_alone() && fleet.members() == 0);
}
