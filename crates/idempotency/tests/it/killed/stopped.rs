//! Workers that are stopped past their lease, and go on.

use std::{env, fmt, time::Duration};

use buttress_idempotency::{
    Begin, CompleteError, Idempotency,
    store::{MySqlStore, PostgresStore},
};
use buttress_testkit::{
    child::{Child, Role, role},
    eventually,
    redis::fresh_prefix,
    short_or_long,
};
use tokio::time::{Instant, sleep};

use super::{LEASE, handle};
use crate::stand::{ASKED, OnMySql, OnPostgres, SECOND, key, new, on_redis, open};

/// How many heartbeats in a row a loaded machine may hold up.
const TRIES: u32 = 20;

/// Claims a key, says so, and completes it when it is let go on.
#[tokio::main(flavor = "current_thread")]
async fn claim_and_wait(role: Role) {
    let (store, url) = (env::var("STORE").unwrap(), env::var("URL").unwrap());
    let number = env::var("NUMBER").unwrap();
    let idempotency = match &*store {
        "postgres" => {
            handle(PostgresStore::new(sqlx::PgPool::connect(&url).await.unwrap()).unwrap())
        }
        "mysql" => handle(MySqlStore::new(sqlx::MySqlPool::connect(&url).await.unwrap()).unwrap()),
        "redis" => handle(on_redis(&url, &env::var("PREFIX").unwrap()).await),
        _ => handle(open(&url).1),
    };
    let guard = new(idempotency.begin(&key(&number), &ASKED).await.unwrap());
    let role = std::sync::Arc::new(role);
    // On a thread of its own, so that the heartbeat goes on.
    let waits = std::sync::Arc::clone(&role);
    tokio::task::spawn_blocking(move || waits.wait_at("claimed"))
        .await
        .unwrap();
    let said = match guard.complete("the zombie's").await {
        Ok(()) => "recorded",
        Err(CompleteError::Lost(_)) => "refused",
        Err(error) => panic!("{error}"),
    };
    role.announce("completed", said);
}

#[test]
fn zombie_role() {
    if let Some(role) = role("zombie") {
        claim_and_wait(role);
    }
}

/// One is stopped beyond its lease, another takes over, and the first goes on. Returns the longest
/// time from the stop to the takeover.
async fn stop_some(store: &str, url: &str, prefix: &str, idempotency: &Idempotency) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..short_or_long(4, 100) {
        let (number, mut zombie) = kept(store, url, prefix, idempotency, number).await;
        zombie.stop();
        let (start, guard) = take_over(idempotency, &number).await;
        longest = longest.max(start.elapsed());
        assert!(guard.resumed());
        guard.complete("the owner's").await.unwrap();
        zombie.resume();
        zombie.go_on();
        assert_eq!(zombie.until("completed").await, "refused");
        zombie.succeed().await;
        let again = idempotency.begin(&key(&number), &ASKED).await.unwrap();
        assert!(matches!(again, Begin::Replay(outcome) if outcome == "the owner's"));
    }
    longest
}

/// One whose heartbeat has kept its key for longer than a lease. A machine with too much to do keeps a
/// worker from its heartbeat, and the key is another's then, rightly: that one is passed over, but
/// not each.
async fn kept(
    store: &str,
    url: &str,
    prefix: &str,
    idempotency: &Idempotency,
    number: usize,
) -> (String, Child) {
    for tried in 0..TRIES {
        let number = format!("{store} {number} {tried}");
        let mut zombie = Child::role("zombie", "killed::stopped::zombie_role")
            .environment("STORE", store)
            .environment("URL", url)
            .environment("PREFIX", prefix)
            .environment("NUMBER", &number)
            .spawn();
        zombie.until("claimed").await;
        sleep(2 * LEASE).await;
        match idempotency.begin(&key(&number), &ASKED).await.unwrap() {
            Begin::InFlight { .. } => return (number, zombie),
            Begin::New(guard) if guard.resumed() => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("of {TRIES} workers the heartbeat of none keeps its key");
}

async fn take_over(
    idempotency: &Idempotency,
    number: &str,
) -> (Instant, buttress_idempotency::Guard) {
    let start = Instant::now();
    let guard = eventually("its lease is over", 20 * SECOND, async || match idempotency
        .begin(&key(number), &ASKED)
        .await
        .unwrap()
    {
        Begin::New(guard) => Some(guard),
        _ => None,
    })
    .await;
    (start, guard)
}

fn in_time(store: impl fmt::Display, longest: Duration) {
    // A lease, the looks of `eventually`, and a loaded machine.
    assert!(
        longest < LEASE + 10 * SECOND,
        "{store}: taken over after {longest:?}"
    );
}

#[tokio::test]
async fn a_worker_that_stands_still_loses_its_key_within_a_lease_and_is_refused_later() {
    let _tally = buttress_testkit::tally::suite("ID3");
    if let Some(on) = OnPostgres::start().await {
        let idempotency = handle(on.store.clone());
        in_time(
            "postgres",
            stop_some("postgres", on.database.url(), "", &idempotency).await,
        );
        on.close().await;
    }
    if let Some(on) = OnMySql::start().await {
        let idempotency = handle(on.store.clone());
        in_time(
            "mysql",
            stop_some("mysql", on.database.url(), "", &idempotency).await,
        );
        on.close().await;
    }
    // Not on SQLite: who is stopped in the middle of a write there stops every writer of the file,
    // and none can take over before he goes on. That he is refused then is in the suite.
    if let Some(prefix) = fresh_prefix() {
        let idempotency = handle(on_redis(prefix.url(), prefix.as_str()).await);
        in_time(
            "redis",
            stop_some("redis", prefix.url(), prefix.as_str(), &idempotency).await,
        );
    }
}
