//! Instances that share opinions over a real Redis, which is killed, flushed, stopped and cut off.

use std::{sync::Arc, time::Duration};

use ::redis::aio::ConnectionManager;
use buttress_circuit_breaker::{
    BreakerFleet, CircuitBreaker, FleetPolicy, OpenTime, Policy, State,
};
use buttress_core::Clock;
use buttress_store::{
    Gate, RedisConnection,
    board::{Board, RedisBoard},
};
use buttress_testkit::{
    cancel_sweep::cancel_sweep,
    eventually,
    proxy::{Proxy, Way},
    redis::{Cluster, Server, fresh_prefix},
};
use tokio::sync::watch;

const INTERVAL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(30);

async fn connection(url: &str) -> RedisConnection {
    let client = ::redis::Client::open(url).unwrap();
    RedisConnection::new(ConnectionManager::new(client).await.unwrap())
}

fn policy(open: Duration) -> Policy {
    let policy = Policy::builder().count_window(10).minimum_calls(4);
    let policy = policy.half_open_permits(1).open_time(OpenTime::fixed(open));
    policy.build().unwrap()
}

/// Instances that exchange in the background until they are dropped.
struct Fleet {
    members: Vec<(CircuitBreaker, BreakerFleet)>,
    _stop: watch::Sender<()>,
}

impl Fleet {
    fn of(boards: Vec<RedisBoard>, open: Duration) -> Self {
        let (stop, stopped) = watch::channel(());
        let members = boards.into_iter().map(|board| {
            let breaker = CircuitBreaker::builder("payments")
                .policy(policy(open))
                .build();
            let sharing = FleetPolicy::default().interval(INTERVAL).unwrap();
            let gate = Gate::redis()
                .with_deadline(Duration::from_millis(200))
                .unwrap();
            let gate = gate.with_longest_pause(Duration::from_secs(1)).unwrap();
            let fleet = BreakerFleet::builder("shop", board)
                .policy(sharing)
                .gate(gate);
            let fleet = fleet.build().unwrap();
            fleet.add(&breaker).unwrap();
            let (runs, mut stopped) = (fleet.clone(), stopped.clone());
            tokio::spawn(async move {
                runs.run_until(async { drop(stopped.changed().await) })
                    .await;
            });
            (breaker, fleet)
        });
        Self {
            members: members.collect(),
            _stop: stop,
        }
    }

    async fn all_hear(&self, members: usize) {
        eventually("all hear all", SOON, async || {
            let hears = |(_, fleet): &(_, BreakerFleet)| fleet.views()[0].members == members;
            self.members.iter().all(hears).then_some(())
        })
        .await;
    }

    fn fail(&self, instances: std::ops::Range<usize>) {
        for (breaker, _) in &self.members[instances] {
            for _ in 0..4 {
                if let Ok(permit) = breaker.try_acquire() {
                    permit.failure();
                }
            }
        }
    }

    fn succeed(&self, instances: std::ops::Range<usize>) {
        for (breaker, _) in &self.members[instances] {
            if let Ok(permit) = breaker.try_acquire() {
                permit.success();
            }
        }
    }

    async fn all_are(&self, state: State) {
        eventually("all are in one state", SOON, async || {
            let is = |(breaker, _): &(CircuitBreaker, _)| breaker.state() == state;
            self.members.iter().all(is).then_some(())
        })
        .await;
    }

    async fn all_are_alone(&self, alone: bool) {
        eventually("all are alone, or not", SOON, async || {
            let is = |(_, fleet): &(_, BreakerFleet)| fleet.is_alone() == alone;
            self.members.iter().all(is).then_some(())
        })
        .await;
    }

    /// Calls go on as ever, whatever the board does, and each breaker decides by itself. How long
    /// the longest of them took.
    async fn goes_on_alone(&self) {
        let clock = Clock::tokio();
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            for (breaker, _) in &self.members {
                let begun = clock.now();
                let _ended = breaker.call(async { Ok::<_, ()>(()) }).await;
                longest = longest.max(clock.now().saturating_since(begun));
            }
            tokio::task::yield_now().await;
        }
        assert!(
            longest < Duration::from_millis(50),
            "a call waited {longest:?}"
        );
        let (breaker, _) = &self.members[0];
        breaker.close();
        for _ in 0..10 {
            breaker.try_acquire().unwrap().failure();
            if breaker.state() == State::Open {
                break;
            }
        }
        assert_eq!(breaker.state(), State::Open, "by what it sees itself");
        breaker.close();
    }
}

async fn quorum_opens_and_recovery_closes(boards: Vec<RedisBoard>) {
    let fleet = Fleet::of(boards, Duration::from_secs(2));
    let count = fleet.members.len();
    fleet.all_hear(count).await;
    fleet.succeed(0..count);
    fleet.fail(0..1);
    tokio::time::sleep(5 * INTERVAL).await;
    let states = fleet.members.iter().map(|(it, _)| it.state());
    let open = states.filter(|it| *it == State::Open).count();
    assert_eq!(open, 1, "one bad instance opened others");
    let clock = Clock::tokio();
    let begun = clock.now();
    fleet.fail(1..3);
    fleet.all_are(State::Open).await;
    let took = clock.now().saturating_since(begun);
    assert!(took < Duration::from_secs(2), "{took:?}");
    eventually("all are closed again", SOON, async || {
        fleet.succeed(0..count);
        let closed = |(breaker, _): &(CircuitBreaker, _)| breaker.state() == State::Closed;
        fleet.members.iter().all(closed).then_some(())
    })
    .await;
    for _ in 0..10 {
        tokio::time::sleep(INTERVAL).await;
        fleet.succeed(0..count);
    }
    fleet.all_are(State::Closed).await;
}

#[tokio::test]
async fn on_redis_a_quorum_opens_it_for_all_and_recovery_closes_it() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let mut boards = Vec::new();
    for _ in 0..5 {
        let connection = connection(prefix.url()).await;
        let prefix = prefix.as_str().trim_end_matches(':');
        boards.push(RedisBoard::with_prefix(connection, prefix).unwrap());
    }
    quorum_opens_and_recovery_closes(boards).await;
}

#[tokio::test]
async fn on_a_cluster_a_quorum_opens_it_for_all_and_recovery_closes_it() {
    let Ok(cluster) = Cluster::start() else {
        return;
    };
    let mut boards = Vec::new();
    for _ in 0..5 {
        let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
        let connection = client.get_async_connection().await.unwrap();
        boards.push(RedisBoard::new(RedisConnection::new(connection)));
    }
    quorum_opens_and_recovery_closes(boards).await;
}

async fn three_at(url: &str) -> Fleet {
    let mut boards = Vec::new();
    for _ in 0..3 {
        boards.push(RedisBoard::new(connection(url).await));
    }
    let fleet = Fleet::of(boards, Duration::from_secs(60));
    fleet.all_hear(3).await;
    fleet
}

/// It is shared again: two open it for the third.
async fn is_shared_again(fleet: &Fleet) {
    fleet.all_are_alone(false).await;
    fleet.all_hear(3).await;
    for (breaker, _) in &fleet.members {
        breaker.close();
    }
    // What is seen from now on must be news, by more than it may have been on its way.
    tokio::time::sleep(Duration::from_millis(600)).await;
    fleet.fail(0..2);
    fleet.all_are(State::Open).await;
}

#[tokio::test]
async fn a_killed_redis_blocks_nobody_and_is_found_again() {
    let Ok(server) = Server::start() else {
        return;
    };
    let fleet = three_at(&server.url()).await;
    server.kill();
    fleet.all_are_alone(true).await;
    fleet.goes_on_alone().await;
    server.restart().unwrap();
    is_shared_again(&fleet).await;
}

#[tokio::test]
async fn a_stopped_redis_blocks_nobody_and_is_found_again() {
    let Ok(server) = Server::start() else {
        return;
    };
    let fleet = three_at(&server.url()).await;
    let signal = |name: &str| {
        let pid = server.pid().to_string();
        let kill = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(kill.unwrap().success());
    };
    signal("-STOP");
    fleet.all_are_alone(true).await;
    fleet.goes_on_alone().await;
    signal("-CONT");
    is_shared_again(&fleet).await;
}

#[tokio::test]
async fn a_black_hole_blocks_nobody_and_redis_is_found_again() {
    let Ok(server) = Server::start() else {
        return;
    };
    let (proxy, url) = Proxy::before(&server.url()).await.unwrap();
    let fleet = three_at(&url).await;
    proxy.black_hole(Way::ToClient);
    fleet.all_are_alone(true).await;
    fleet.goes_on_alone().await;
    proxy.heal().await.unwrap();
    is_shared_again(&fleet).await;
}

#[tokio::test]
async fn a_flushed_redis_is_filled_again_and_opens_nothing() {
    let Ok(server) = Server::start() else {
        return;
    };
    let fleet = three_at(&server.url()).await;
    fleet.succeed(0..3);
    let client = ::redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for words in ["FLUSHALL", "SCRIPT FLUSH", "FLUSHALL"] {
        let mut words = words.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap());
        let () = command
            .arg(words.collect::<Vec<_>>())
            .query_async(&mut connection)
            .await
            .unwrap();
        tokio::time::sleep(INTERVAL / 2).await;
        assert!(
            fleet
                .members
                .iter()
                .all(|(it, _)| it.state() == State::Closed)
        );
    }
    is_shared_again(&fleet).await;
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(keys, ["buttress:board:{shop:payments}"]);
    let ends: i64 = ::redis::cmd("PTTL")
        .arg(&keys)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!((1..=1000).contains(&ends), "{ends} ms");
}

/// Wherever a round is dropped, the next one is whole.
#[tokio::test]
async fn a_round_that_is_dropped_anywhere_leaves_the_fleet_whole() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let connection = connection(&url).await;
    let prefix = prefix.as_str().trim_end_matches(':');
    let board: Arc<dyn Board> = Arc::new(RedisBoard::with_prefix(connection, prefix).unwrap());
    let member = || {
        let breaker = CircuitBreaker::builder("payments")
            .policy(policy(Duration::from_secs(3600)))
            .build();
        let fleet = BreakerFleet::builder("shop", Arc::clone(&board));
        let fleet = fleet.gate(Gate::sql()).build().unwrap();
        fleet.add(&breaker).unwrap();
        (breaker, fleet)
    };
    let (one, other) = (member(), member());
    for _ in 0..2 {
        one.1.run_once().await.unwrap();
        other.1.run_once().await.unwrap();
    }
    let points = cancel_sweep(
        async || one.1.run_once().await.unwrap(),
        async |point| {
            one.1.run_once().await.unwrap();
            other.1.run_once().await.unwrap();
            for (_, fleet) in [&one, &other] {
                assert_eq!(fleet.views()[0].members, 2, "{point:?}");
            }
            assert_eq!(one.0.state(), State::Closed);
        },
    )
    .await;
    assert!(points.points > 0);
}
