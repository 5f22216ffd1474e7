//! Budgets that the instances of a fleet spend together: what they spend at most, and what happens
//! when the board between them fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Registry, clock::ManualHand};
use buttress_retry_backoff::{
    Backoff, Budget, BudgetFleet, BudgetRule, FleetEvent, FleetEventKind, Retry, RetryPolicy,
};
use buttress_store::{
    Deadline, Key, Phase, RedisConnection, StoreError, StoreErrorKind,
    board::{Board, MemoryBoard, Page, Post, RedisBoard},
};
use buttress_testkit::{
    cancel_sweep::cancel_sweep,
    eventually,
    fault::{Fault, Injected, Injection, Plan, fault_sweep},
    proxy::{Proxy, Way},
    redis::{Cluster, Server, fresh_prefix},
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;

const SECOND: Duration = Duration::from_secs(1);

/// One instance, whose clock the test moves.
struct Instance {
    budget: Budget,
    retry: Retry,
    fleet: BudgetFleet,
    hand: ManualHand,
}

impl Instance {
    fn new(rule: BudgetRule, board: impl Board + 'static) -> Self {
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
    async fn fails(&self) -> u64 {
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

    async fn round(&self) {
        self.fleet.run_once().await.unwrap();
    }
}

fn quota(capacity: u32) -> BudgetRule {
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

/// A board in which anything can go wrong at any exchange.
struct FaultBoard {
    board: MemoryBoard,
    plan: Plan<StoreError>,
}

impl std::fmt::Debug for FaultBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultBoard")
    }
}

#[async_trait::async_trait]
impl Board for FaultBoard {
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError> {
        let exchange = self.board.exchange(page, post, deadline);
        let step = self.plan.around("exchange", exchange);
        deadline.run(Phase::Statement, step).await
    }
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_exchange_leaves_the_fleet_within_its_bound() {
    let error = |_: Injected| StoreError::new(StoreErrorKind::Lost, Phase::Statement);
    let runs = fault_sweep(&Fault::ALL, error, async |plan| {
        let board = MemoryBoard::new();
        let faulty = FaultBoard {
            board: board.clone(),
            plan,
        };
        let instances = [
            Instance::new(quota(30), faulty),
            Instance::new(quota(30), board.clone()),
            Instance::new(quota(30), board),
        ];
        for _ in 0..3 {
            for instance in &instances {
                let _ended = instance.fleet.run_once().await;
            }
        }
        let mut spent = 0;
        for _ in 0..5 {
            for instance in &instances {
                for _ in 0..10 {
                    spent += instance.fails().await;
                }
                let _ended = instance.fleet.run_once().await;
            }
        }
        // Alone it has its third once more.
        assert!((30..=2 * 30 + 3 + 10).contains(&spent), "{spent}");
    })
    .await;
    assert_eq!(runs, 48, "eight exchanges, six faults");
}

/// What is drawn while the answer is on its way is not known to the others: it is of the next part.
#[tokio::test(start_paused = true)]
async fn what_is_drawn_during_an_exchange_is_of_the_next_part() {
    let board = MemoryBoard::new();
    let slow = Fault::Slow(Duration::from_millis(1));
    let plan = Plan::new([Injection::new(4, slow)], |_| {
        StoreError::new(StoreErrorKind::Lost, Phase::Statement)
    });
    let faulty = FaultBoard {
        board: board.clone(),
        plan,
    };
    let (one, other) = (
        Instance::new(quota(60), faulty),
        Instance::new(quota(60), board),
    );
    for _ in 0..3 {
        one.round().await;
        other.round().await;
    }
    assert_eq!(one.budget.available(), 30);
    let draws = async {
        let mut drawn = 0;
        for _ in 0..40 {
            drawn += one.fails().await;
        }
        drawn
    };
    let ((), drawn) = tokio::join!(one.round(), draws);
    assert_eq!(drawn, 30);
    assert_eq!(
        one.fails().await,
        0,
        "the others know of none of the thirty"
    );
    one.round().await;
    assert_eq!(one.budget.available(), 15);
}

/// A board that says no.
#[derive(Debug)]
struct Away;

#[async_trait::async_trait]
impl Board for Away {
    async fn exchange(&self, _: &Key, _: Option<&Post>, _: Deadline) -> Result<Page, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unreachable, Phase::Connect))
    }
}

#[tokio::test]
async fn without_its_board_an_instance_has_the_whole_budget_and_says_that_it_is_alone() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let registry = Registry::new();
    let fleet = BudgetFleet::builder("shop", Away)
        .observer(move |event: &FleetEvent| hears.lock().unwrap().push(event.kind.clone()))
        .registry(&registry)
        .build()
        .unwrap();
    let budget = Budget::new(quota(5)).unwrap();
    fleet.add("payments", &budget).unwrap();
    assert!(fleet.run_once().await.is_err());
    assert_eq!(budget.available(), 5);
    let kinds = std::mem::take(&mut *heard.lock().unwrap());
    assert!(matches!(kinds[..], [FleetEventKind::Failed { .. }]));
    assert_eq!(registry.entries()[0].state(), "alone");
}

async fn board_at(url: &str, prefix: &str) -> Arc<dyn Board> {
    let client = ::redis::Client::open(url).unwrap();
    let manager = ::redis::aio::ConnectionManager::new(client).await.unwrap();
    Arc::new(RedisBoard::with_prefix(RedisConnection::new(manager), prefix).unwrap())
}

async fn spends_one_budget(boards: Vec<Arc<dyn Board>>) {
    let instances: Vec<_> = boards
        .into_iter()
        .map(|board| Instance::new(quota(60), board))
        .collect();
    for _ in 0..2 {
        for instance in &instances {
            instance.round().await;
        }
    }
    let mut spent = 0;
    for _ in 0..60 {
        for instance in &instances {
            spent += instance.fails().await;
            instance.round().await;
        }
    }
    // Each may make one retry before it hears that there is none left.
    assert!((60..64).contains(&spent), "{spent}");
}

#[tokio::test]
async fn over_redis_a_fleet_spends_one_budget() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let mut boards = Vec::new();
    for _ in 0..4 {
        boards.push(board_at(prefix.url(), prefix.as_str().trim_end_matches(':')).await);
    }
    spends_one_budget(boards).await;
}

#[tokio::test]
async fn over_a_cluster_a_fleet_spends_one_budget() {
    let Ok(cluster) = Cluster::start() else {
        return;
    };
    let mut boards: Vec<Arc<dyn Board>> = Vec::new();
    for _ in 0..4 {
        let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
        let connection = client.get_async_connection().await.unwrap();
        boards.push(Arc::new(RedisBoard::new(RedisConnection::new(connection))));
    }
    spends_one_budget(boards).await;
}

/// Killed, stopped, cut off, flushed: calls go on with the instance's part, and it is found again.
#[tokio::test]
async fn a_redis_that_is_away_blocks_nobody_divides_the_budget_and_is_found_again() {
    let Ok(server) = Server::start() else {
        return;
    };
    let (proxy, url) = Proxy::before(&server.url()).await.unwrap();
    let signal = |name: &str| {
        let pid = server.pid().to_string();
        let kill = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(kill.unwrap().success());
    };
    for how in ["killed", "stopped", "black hole"] {
        let mut instances = Vec::new();
        for _ in 0..3 {
            instances.push(Instance::new(
                quota(30),
                board_at(&url, how.split(' ').next().unwrap()).await,
            ));
        }
        for _ in 0..3 {
            for instance in &instances {
                instance.round().await;
            }
        }
        match how {
            "killed" => server.kill(),
            "stopped" => signal("-STOP"),
            _ => proxy.black_hole(Way::ToClient),
        }
        let clock = Clock::tokio();
        let mut spent = 0;
        for instance in &instances {
            let begun = clock.now();
            assert!(instance.fleet.run_once().await.is_err(), "{how}");
            let took = clock.now().saturating_since(begun);
            assert!(took < SECOND, "{how}: {took:?}");
            assert!(instance.fleet.is_alone());
            let begun = clock.now();
            for _ in 0..100 {
                spent += instance.fails().await;
            }
            let took = clock.now().saturating_since(begun);
            assert!(took < SECOND / 4, "{how}: a call waited: {took:?}");
        }
        assert_eq!(spent, 30, "{how}: a third each");
        match how {
            "killed" => server.restart().unwrap(),
            "stopped" => signal("-CONT"),
            _ => proxy.heal().await.unwrap(),
        }
        for instance in &instances {
            eventually("it is found again", 30 * SECOND, async || {
                instance.fleet.run_once().await.ok()
            })
            .await;
        }
        for _ in 0..2 {
            for instance in &instances {
                instance.round().await;
            }
        }
        for instance in &instances {
            assert_eq!(instance.fleet.members(), 3, "{how}");
            assert_eq!(
                instance.fails().await,
                0,
                "{how}: all of it is drawn, as all hear"
            );
        }
    }
}

#[tokio::test]
async fn a_round_that_is_dropped_anywhere_leaves_the_budget_whole() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let prefix = prefix.as_str().trim_end_matches(':');
    let (one, other) = (
        Instance::new(quota(1000), board_at(&url, prefix).await),
        Instance::new(quota(1000), board_at(&url, prefix).await),
    );
    for _ in 0..2 {
        one.round().await;
        other.round().await;
    }
    let spent = std::cell::Cell::new(0);
    let points = cancel_sweep(
        async || one.fleet.run_once().await.unwrap(),
        async |point| {
            spent.set(spent.get() + one.fails().await);
            one.round().await;
            other.round().await;
            assert_eq!(other.fleet.members(), 2, "{point:?}");
            let left = 1000 - spent.get();
            assert_eq!(other.budget.available(), left / 2, "{point:?}");
        },
    )
    .await;
    assert!(points.points > 0);
}
