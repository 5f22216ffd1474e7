//! What becomes of a fleet's budget when the board between its instances fails.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Clock, Registry};
use buttress_retry_backoff::{Budget, BudgetFleet, FleetEvent, FleetEventKind};
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
};

use crate::fleet::{Instance, SECOND, quota};

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
    let _tally = buttress_testkit::tally::suite("X2");
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
    let tally = buttress_testkit::tally::suite("X6 X9");
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
            // Its own deadline is half a second; without one it would hang until the test ends it.
            assert!(took < 20 * SECOND, "{how}: {took:?}");
            assert!(instance.fleet.is_alone());
            let begun = clock.now();
            for _ in 0..100 {
                spent += instance.fails().await;
            }
            let took = clock.now().saturating_since(begun);
            // Had each waited for a deadline, they would have taken fifty seconds.
            assert!(took < 20 * SECOND, "{how}: calls waited: {took:?}");
        }
        assert_eq!(spent, 30, "{how}: a third each");
        match how {
            "killed" => server.restart().unwrap(),
            "stopped" => signal("-CONT"),
            _ => proxy.heal().await.unwrap(),
        }
        // On a slow machine a notice may end between two rounds: they go on until all are heard.
        eventually("all find it, and one another", 60 * SECOND, async || {
            for instance in &instances {
                instance.fleet.run_once().await.ok()?;
            }
            let all = instances.iter().all(|it| it.fleet.members() == 3);
            all.then_some(())
        })
        .await;
        for instance in &instances {
            assert_eq!(
                instance.fails().await,
                0,
                "{how}: all of it is drawn, as all hear"
            );
        }
    }
    tally.kills(1);
}

#[tokio::test]
async fn a_round_that_is_dropped_anywhere_leaves_the_budget_whole() {
    let _tally = buttress_testkit::tally::suite("X1");
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
