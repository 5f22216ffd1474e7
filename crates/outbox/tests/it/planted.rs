//! OB2: the checker must be able to fail. A relay that reads on from the last id it saw loses what
//! was committed late.

use std::time::Duration;

use buttress_outbox::{Outbox, Relay};
use buttress_testkit::{eventually, seed::Seed};
use rand::RngExt as _;
use sqlx::PgPool;

use crate::{base, lab};

const KEYS: i64 = 40;

/// Eight writers, each holding its transaction for a random time before it ends; one of five is
/// rolled back.
async fn changes(pool: &PgPool, outbox: &Outbox, each: usize) {
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (pool, outbox) = (pool.clone(), outbox.clone());
        writers.spawn(async move {
            let mut rng = Seed::new().rng();
            for _ in 0..each {
                let key = rng.random_range(0..KEYS);
                let wait = Duration::from_micros(rng.random_range(0..4000));
                let commits = rng.random_range(0..5) > 0;
                let hold = async move {
                    tokio::time::sleep(wait).await;
                    commits
                };
                lab::change(&pool, &outbox, key, hold).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

/// Reads on from the last id, until `done` and nothing more comes.
async fn cursor(pool: &PgPool, done: tokio::sync::watch::Receiver<bool>) {
    let mut last = 0_i64;
    loop {
        let ended = *done.borrow();
        let read = "SELECT id, convert_from(payload, 'UTF8') FROM buttress_outbox \
                    WHERE id > $1 ORDER BY id";
        let rows: Vec<(i64, String)> = sqlx::query_as(read)
            .bind(last)
            .fetch_all(pool)
            .await
            .unwrap();
        if ended && rows.is_empty() {
            return;
        }
        for (id, payload) in rows {
            let (key, version): (i64, i64) = serde_json::from_str(&payload).unwrap();
            let hear = sqlx::query("INSERT INTO heard (k, version) VALUES ($1, $2)");
            hear.bind(key).bind(version).execute(pool).await.unwrap();
            last = id;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob2_a_relay_that_reads_on_from_the_last_id_fails_the_checker() {
    let tally = buttress_testkit::tally::suite("OB2");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    lab::furnish(&base.pool, KEYS).await;
    let outbox = Outbox::new(base.store.clone());
    let done = tokio::sync::watch::Sender::new(false);
    let writing = async {
        // One is appended before all others, and held until some of those were read: the cursor has
        // passed it by then.
        let (appended, others) = tokio::sync::oneshot::channel();
        let held = async {
            appended.send(()).unwrap();
            eventually("something is read", Duration::from_secs(30), async || {
                let heard = sqlx::query_scalar("SELECT count(*) FROM heard");
                let heard: i64 = heard.fetch_one(&base.pool).await.unwrap();
                (heard > 10).then_some(true)
            })
            .await
        };
        let late = lab::change(&base.pool, &outbox, 0, held);
        let others = async {
            others.await.unwrap();
            changes(&base.pool, &outbox, 60).await;
        };
        let (late, ()) = tokio::join!(late, others);
        late.unwrap();
        done.send_replace(true);
    };
    tokio::join!(writing, cursor(&base.pool, done.subscribe()));
    let lost = lab::check(&base.pool, false).await.unwrap_err();
    assert!(lost.starts_with("key "), "{lost}");
    // The same messages are still there, and ours delivers them all.
    sqlx::raw_sql("TRUNCATE heard")
        .execute(&base.pool)
        .await
        .unwrap();
    let destination = lab::Destination {
        pool: base.pool.clone(),
        inbox: buttress_outbox::Inbox::new(base.store.clone(), "x").unwrap(),
    };
    let relay = Relay::builder(&outbox).topic(lab::TOPIC, destination);
    relay.build().unwrap().run_once().await.unwrap();
    lab::check(&base.pool, true).await.unwrap();
    tally.caught(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob2_eight_writers_that_hold_and_roll_back_lose_nothing_to_two_relays() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    lose_nothing(&base).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob2_eight_writers_that_hold_and_roll_back_lose_nothing_in_a_ring() {
    let Some(base) = base::on_ring(&[lab::TOPIC], 100).await else {
        return;
    };
    lose_nothing(&base).await;
    assert!(base::rows(&base.pool, "buttress_outbox_mark").await > 0);
}

async fn lose_nothing(base: &base::Base<sqlx::Postgres>) {
    let tally = buttress_testkit::tally::suite("OB2");
    lab::furnish(&base.pool, KEYS).await;
    let outbox = Outbox::new(base.store.clone());
    let stop = tokio::sync::watch::Sender::new(false);
    let mut relays = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let destination = lab::Destination {
            pool: base.pool.clone(),
            inbox: buttress_outbox::Inbox::new(base.store.clone(), "x").unwrap(),
        };
        let relay = Relay::builder(&outbox).topic(lab::TOPIC, destination);
        let relay = relay.build().unwrap();
        let mut stop = stop.subscribe();
        relays.spawn(async move {
            let stopped = async move {
                let _ = stop.wait_for(|stop| *stop).await;
            };
            relay.run_until(stopped).await;
        });
    }
    let each = buttress_testkit::short_or_long(100, 100_000);
    changes(&base.pool, &outbox, each).await;
    let seen = eventually("all is heard", Duration::from_secs(60), async || {
        lab::check(&base.pool, true).await.ok()
    });
    let seen = seen.await;
    stop.send_replace(true);
    relays.join_all().await;
    assert!(seen.committed > 100, "{seen:?}");
    assert_eq!(seen.duplicates, 0, "nobody died, so nothing comes twice");
    tally.operations(seen.committed);
}
