//! RL4: Redis killed, flushed, stopped, black-holed and replaced while it is asked: what was chosen for that
//! is done, in bounded time, and it recovers by itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Clock, Fault as _};
use buttress_rate_limiter::{
    Bandwidth, Event, EventKind, Quota, SharedRateLimiter, WhenDown, store::RedisStore,
};
use buttress_store::Gate;
use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    redis::{Prefix, Server, fresh_prefix},
};

use crate::stores::redis_connection;

const DEADLINE: Duration = Duration::from_millis(200);

async fn limiter(url: &str, when_down: WhenDown) -> (SharedRateLimiter, Arc<Mutex<Vec<Event>>>) {
    limiter_within(DEADLINE, url, when_down).await
}

async fn limiter_within(
    deadline: Duration,
    url: &str,
    when_down: WhenDown,
) -> (SharedRateLimiter, Arc<Mutex<Vec<Event>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let store = RedisStore::new(redis_connection(url).await);
    let quota = Quota::new(Bandwidth::per_hour(5)).unwrap();
    let limiter = SharedRateLimiter::builder("outage", quota, store)
        .when_down(when_down)
        .gate(Gate::redis().with_deadline(deadline).unwrap())
        .observer(move |event: &Event| hears.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    (limiter, heard)
}

/// Asks 200 times, and says how many were let through, and how long the longest took.
async fn asked(limiter: &SharedRateLimiter, key: &str) -> (usize, usize, Duration) {
    let clock = Clock::tokio();
    let (mut allowed, mut errors, mut longest) = (0, 0, Duration::ZERO);
    for _ in 0..200 {
        let before = clock.now();
        match limiter.check(key).await {
            Ok(decision) => allowed += usize::from(decision.is_allowed()),
            Err(error) => {
                assert_eq!(error.status(), 503);
                assert!(error.retry_after().is_some());
                errors += 1;
            }
        }
        longest = longest.max(clock.now().saturating_since(before));
    }
    (allowed, errors, longest)
}

async fn in_a_black_hole(prefix: &Prefix, when_down: WhenDown) {
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let (limiter, heard) = limiter(&url, when_down).await;
    let key = &format!("{}{when_down:?}", prefix.as_str());
    assert!(limiter.check(key).await.unwrap().is_allowed());
    proxy.black_hole(Way::ToClient);
    let clock = Clock::tokio();
    let before = clock.now();
    let (allowed, errors, longest) = asked(&limiter, key).await;
    let whole = clock.now().saturating_since(before);
    match when_down {
        WhenDown::Open => assert_eq!((allowed, errors), (200, 0)),
        WhenDown::Closed => assert_eq!((allowed, errors), (0, 200)),
        // The same quota, from a full burst.
        _ => assert_eq!((allowed, errors), (5, 0)),
    }
    let late = DEADLINE + Duration::from_millis(150);
    assert!(longest < late, "{longest:?}");
    assert!(
        whole < late * 2,
        "the deadline was paid more than once: {whole:?}"
    );
    proxy.heal().await.unwrap();
    eventually("the store answers", Duration::from_secs(20), async || {
        let _decision = limiter.check(key).await;
        (!limiter.is_store_down()).then_some(())
    })
    .await;
    let kinds: Vec<_> = heard
        .lock()
        .unwrap()
        .iter()
        .map(|event| event.kind)
        .collect();
    let failed = |kind: &&EventKind| matches!(kind, EventKind::StoreFailed { .. });
    assert!(kinds.iter().any(|kind| failed(&kind)));
    assert!(
        kinds
            .iter()
            .any(|kind| matches!(kind, EventKind::StoreRecovered))
    );
}

#[tokio::test]
async fn rl4_a_black_hole_costs_one_deadline_and_does_what_was_chosen() {
    let _tally = buttress_testkit::tally::suite("RL4 X6");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    for when_down in [WhenDown::Local, WhenDown::Open, WhenDown::Closed] {
        in_a_black_hole(&prefix, when_down).await;
    }
}

#[tokio::test]
async fn rl4_a_killed_redis_comes_back_and_what_it_forgot_is_given_out_once_more() {
    let _tally = buttress_testkit::tally::suite("RL4 X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let (limiter, _) = limiter(&server.url(), WhenDown::Closed).await;
    while limiter.check("a").await.unwrap().is_allowed() {}
    server.kill();
    let (allowed, errors, longest) = asked(&limiter, "a").await;
    assert_eq!((allowed, errors), (0, 200));
    assert!(
        longest < DEADLINE + Duration::from_millis(150),
        "{longest:?}"
    );
    server.restart().unwrap();
    let given = eventually("the store answers", Duration::from_secs(30), async || {
        limiter
            .check("a")
            .await
            .ok()
            .map(|it| usize::from(it.is_allowed()))
    })
    .await;
    let (allowed, errors, _) = asked(&limiter, "a").await;
    assert_eq!(
        (given + allowed, errors),
        (5, 0),
        "one quota more, and no more"
    );
}

#[tokio::test]
async fn rl4_a_flush_gives_out_a_quota_more_and_forgotten_scripts_cost_nothing() {
    let tally = buttress_testkit::tally::suite("RL4 X9");
    let Ok(server) = Server::start() else {
        return;
    };
    // Nothing is away here: a slow machine is not to be taken for it.
    let patient = Duration::from_secs(30);
    let (limiter, _) = limiter_within(patient, &server.url(), WhenDown::Closed).await;
    let client = ::redis::Client::open(server.url()).unwrap();
    let mut flush = client.get_multiplexed_async_connection().await.unwrap();
    let mut given = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            let () = ::redis::cmd("SCRIPT")
                .arg("FLUSH")
                .query_async(&mut flush)
                .await
                .unwrap();
            given += usize::from(limiter.check("a").await.unwrap().is_allowed());
        }
        let () = ::redis::cmd("FLUSHALL")
            .query_async(&mut flush)
            .await
            .unwrap();
    }
    assert_eq!(given, 15);
    tally.faults(3 * 21);
}

#[tokio::test]
async fn rl4_a_stopped_redis_is_left_alone_and_found_again() {
    let tally = buttress_testkit::tally::suite("RL4 X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let (limiter, _) = limiter(&server.url(), WhenDown::Local).await;
    assert!(limiter.check("a").await.unwrap().is_allowed());
    let signal = |name: &str| {
        let pid = server.pid().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    let (allowed, errors, longest) = asked(&limiter, "a").await;
    signal("-CONT");
    assert_eq!((allowed, errors), (5, 0), "the same quota, here");
    assert!(
        longest < DEADLINE + Duration::from_millis(150),
        "{longest:?}"
    );
    eventually("the store answers", Duration::from_secs(20), async || {
        let _decision = limiter.check("b").await;
        (!limiter.is_store_down()).then_some(())
    })
    .await;
    tally.kills(1);
}

#[tokio::test]
async fn rl4_a_replica_takes_over_and_the_old_primary_is_refused_as_read_only() {
    let tally = buttress_testkit::tally::suite("RL4 X9");
    let Ok(primary) = Server::start() else {
        return;
    };
    let replica = primary.start_replica().unwrap();
    let (limiter, _) = limiter(&replica.url(), WhenDown::Closed).await;
    // A replica takes no writes: that is no hang, and nothing is let through.
    let (allowed, errors, longest) = asked(&limiter, "a").await;
    assert_eq!((allowed, errors), (0, 200));
    assert!(
        longest < DEADLINE + Duration::from_millis(150),
        "{longest:?}"
    );
    let client = ::redis::Client::open(replica.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut promote = ::redis::cmd("REPLICAOF");
    promote.arg("NO").arg("ONE");
    let () = promote.query_async(&mut connection).await.unwrap();
    let given = eventually("the store answers", Duration::from_secs(20), async || {
        limiter
            .check("a")
            .await
            .ok()
            .map(|it| usize::from(it.is_allowed()))
    })
    .await;
    let (allowed, errors, _) = asked(&limiter, "a").await;
    assert_eq!((given + allowed, errors), (5, 0));
    tally.faults(1);
}
