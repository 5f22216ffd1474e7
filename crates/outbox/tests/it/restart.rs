//! OB8 as a whole: the server itself dies in the middle of relaying, and comes back.

use std::time::{Duration, Instant};

use buttress_outbox::{Inbox, Outbox, Relay, RelayPolicy, TopicPolicy};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{eventually::eventually_as, left_out::LeftOut, postgres, short_or_long};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    task::{JoinHandle, block_in_place},
    time::{sleep, timeout},
};

use crate::{
    base::postgres_at,
    lab::{self, Destination, TOPIC},
};

const KEYS: i64 = 20;

/// OB8: a server that is killed and started again, each time in the middle of relaying.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob8_a_server_that_is_killed_and_restarted_loses_and_overtakes_nothing() {
    let _tally = buttress_testkit::tally::suite("OB8 X8");
    let server = match postgres::Server::start() {
        Ok(server) => server,
        Err(postgres::StartError::NotFound(why)) => {
            return LeftOut::new("a restart of PostgreSQL", why.to_string()).register();
        }
        Err(error) => panic!("{error}"),
    };
    let url = server.url("postgres");
    let (pool, store) = postgres_at(&url).await;
    store.migrate().await.unwrap();
    lab::furnish(&pool, KEYS).await;
    let outbox = Outbox::new(store.with_notify());
    let stop = watch::Sender::new(false);
    let relaying = relay(&url, stop.subscribe()).await;
    let writing = write(pool.clone(), outbox, stop.subscribe());

    let rounds = short_or_long(3, 50);
    for round in 0..rounds {
        let before = heard(&pool).await.unwrap();
        progress(&pool, before + 100).await;
        block_in_place(|| server.kill());
        // Long enough that all of them notice.
        sleep(Duration::from_millis(if round % 2 == 0 { 50 } else { 700 })).await;
        let begun = Instant::now();
        block_in_place(|| server.restart()).unwrap();
        let up = begun.elapsed();
        let begun = Instant::now();
        let before = eventually_as("it answers", Duration::from_secs(20), async || {
            heard(&pool).await.ok_or("no answer".to_owned())
        });
        let before = before.await;
        progress(&pool, before + 1).await;
        let took = begun.elapsed();
        println!(
            "restart {round}: the server took {up:?}, the next message was heard {took:?} later"
        );
        assert!(took < Duration::from_secs(15), "{took:?}");
    }

    stop.send_replace(true);
    writing.await.unwrap();
    // The relay was told to stop as well; a last one has what is left.
    relaying.await.unwrap();
    let last = watch::Sender::new(false);
    let relaying = relay(&url, last.subscribe()).await;
    let seen = eventually_as("all is heard", Duration::from_secs(60), async || {
        lab::check(&pool, true).await
    });
    let seen = seen.await;
    last.send_replace(true);
    relaying.await.unwrap();
    println!("{seen:?}");
    assert!(seen.committed >= 300, "{seen:?}");
}

async fn relay(url: &str, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let (pool, store) = postgres_at(url).await;
    let inbox = Inbox::new(store.clone(), "x").unwrap();
    let outage = Backoff::constant(Duration::from_millis(20));
    let relay = Relay::builder(&Outbox::new(store.with_notify()))
        .policy(RelayPolicy::new().with_lease(Duration::from_secs(1)))
        .topic_with(
            TOPIC,
            TopicPolicy::new().with_outage_backoff(outage),
            Destination { pool, inbox },
        )
        .build()
        .unwrap();
    tokio::spawn(async move {
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        relay.run_until(stopped).await;
    })
}

/// Changes without end. What is refused was not committed, or it was: the business row knows.
fn write(pool: PgPool, outbox: Outbox, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut key = 0;
        while !*stop.borrow() {
            key = (key + 7) % KEYS;
            let changing = lab::change(&pool, &outbox, key, async { true });
            // sqlx has no deadline of its own.
            let changed = timeout(Duration::from_secs(2), changing).await;
            let pause = if matches!(changed, Ok(Ok(()))) { 1 } else { 20 };
            sleep(Duration::from_millis(pause)).await;
        }
    })
}

async fn heard(pool: &PgPool) -> Option<i64> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM heard").fetch_one(pool);
    timeout(Duration::from_secs(2), count).await.ok()?.ok()
}

async fn progress(pool: &PgPool, heard_at_least: i64) {
    eventually_as("more is heard", Duration::from_secs(30), async || {
        let heard = heard(pool).await;
        heard
            .filter(|heard| *heard >= heard_at_least)
            .ok_or_else(|| format!("{heard:?} of {heard_at_least}"))
    })
    .await;
}
