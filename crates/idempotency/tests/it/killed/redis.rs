//! Workers that are killed, on Redis.

use std::{env, time::Duration};

use ::redis::AsyncCommands as _;
use buttress_idempotency::{Begin, Idempotency};
use buttress_testkit::{
    child::{Child, Role, role},
    eventually,
    redis::fresh_prefix,
    seed::Seed,
};
use rand::RngExt as _;
use tokio::time::sleep;

use super::{KEYS, handle, kills, told};
use crate::stand::{ASKED, SECOND, key, on_redis};

/// The effect and what was told, in Redis: no transaction holds them together.
async fn ask_redis(
    idempotency: &Idempotency,
    connection: &mut ::redis::aio::ConnectionManager,
    prefix: &str,
    number: i64,
) -> Option<i64> {
    let name = |what: &str| format!("{prefix}{what}:{number}");
    let token = match idempotency
        .begin(&key(&format!("order {number}")), &ASKED)
        .await
        .ok()?
    {
        Begin::New(guard) => {
            let token: i64 = rand::random();
            let () = connection.incr(name("effects"), 1).await.ok()?;
            guard.complete(token.to_be_bytes().to_vec()).await.ok()?;
            token
        }
        Begin::Replay(outcome) => told(&outcome),
        _ => return None,
    };
    let () = connection.sadd(name("seen"), token).await.ok()?;
    Some(token)
}

#[tokio::main(flavor = "current_thread")]
async fn work_on_redis(role: &Role) {
    let (url, prefix) = (env::var("URL").unwrap(), env::var("PREFIX").unwrap());
    let idempotency = handle(on_redis(&url, &prefix).await);
    let client = ::redis::Client::open(url).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    role.announce("working", "");
    loop {
        let number = rand::rng().random_range(0..KEYS);
        ask_redis(&idempotency, &mut connection, &prefix, number).await;
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn redis_worker_role() {
    if let Some(role) = role("redis worker") {
        work_on_redis(&role);
    }
}

#[tokio::test]
async fn on_redis_a_hundred_kills_leave_one_outcome_a_key_and_no_more_effects_than_kills() {
    let _tally = buttress_testkit::tally::suite("ID1 X5");
    let Some(prefix) = fresh_prefix() else { return };
    let seed = Seed::new();
    let mut rng = seed.rng();
    let start = || {
        Child::role("redis worker", "killed::redis::redis_worker_role")
            .environment("URL", prefix.url())
            .environment("PREFIX", prefix.as_str())
            .spawn()
    };
    let mut workers: Vec<_> = (0..4).map(|_| start()).collect();
    for kill in 0..kills(1) as usize {
        workers[kill % 4].until("working").await;
        let within = Duration::ZERO..Duration::from_millis(30);
        workers[kill % 4].kill_within(within, &mut rng).await;
        workers[kill % 4] = start();
    }
    drop(workers);
    let idempotency = handle(on_redis(prefix.url(), prefix.as_str()).await);
    let client = ::redis::Client::open(prefix.url()).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    let mut again = 0;
    for number in 0..KEYS {
        eventually("it can be finished", 20 * SECOND, async || {
            ask_redis(
                &idempotency,
                &mut connection.clone(),
                prefix.as_str(),
                number,
            )
            .await
        })
        .await;
        let name = |what: &str| format!("{}{what}:{number}", prefix.as_str());
        let tokens: i64 = connection.scard(name("seen")).await.unwrap();
        assert_eq!(tokens, 1, "of order {number} different things were told");
        let effects: i64 = connection.get(name("effects")).await.unwrap();
        again += effects - 1;
    }
    assert!(again <= i64::from(kills(1)), "{again} effects too many");
}
