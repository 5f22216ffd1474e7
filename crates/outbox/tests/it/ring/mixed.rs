//! Writers that ask for a ring and writers that do not, relays of both minds that come, go and are
//! dropped, a destination that is moody, transactions that end late, and pieces of a few ids.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress_outbox::{
    Delivery, Inbox, Outbox, OutboxStore, PublishError, Publisher, Relay, RelayPolicy, Topic,
    TopicPolicy,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{eventually, seed::Seed, short_or_long};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{PgPool, Postgres};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{base, lab};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: i64 = 6;

/// Some of it refused, some put off, some heard and not said to be, and now and then nothing taken.
struct Moody {
    destination: lab::Destination<Postgres>,
    well: Arc<AtomicBool>,
}

#[async_trait]
impl Publisher for Moody {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let mut answers = Vec::new();
        for delivery in batch {
            let mood = match self.well.load(Ordering::SeqCst) {
                true => 99,
                false => rand::rng().random_range(0..40),
            };
            answers.push(match mood {
                0..3 => Err(PublishError::refused("not now")),
                3 => Err(PublishError::down("for a moment")),
                4..6 => Err(PublishError::skipped()),
                mood => {
                    let one = std::slice::from_ref(delivery);
                    let heard = self.destination.publish(one).await.pop().unwrap();
                    match mood {
                        6..8 => Err(PublishError::unknown("no confirm")),
                        _ => heard,
                    }
                }
            });
        }
        answers
    }
}

/// One change that is prepared, and committed or not by somebody else.
async fn prepared(pool: &PgPool, outbox: &Outbox, key: i64, name: u64, rng: &mut impl Rng) {
    let mut own = pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *own).await.unwrap();
    let bump = "UPDATE business SET version = version + 1 WHERE k = $1 RETURNING version";
    let version: i64 = sqlx::query_scalar(bump)
        .bind(key)
        .fetch_one(&mut *own)
        .await
        .unwrap();
    let message = buttress_outbox::Message::builder(lab::TOPIC, "/lab", "changed");
    let message = message.key(key.to_string()).json(&(key, version)).build();
    drop(
        outbox
            .append_in(&mut *own, &message.unwrap())
            .await
            .unwrap(),
    );
    let prepare: &'static str = format!("PREPARE TRANSACTION 'mixed-{name}'").leak();
    sqlx::raw_sql(prepare).execute(&mut *own).await.unwrap();
    drop(own);
    sleep(Duration::from_millis(rng.random_range(0..40))).await;
    let end = if rng.random_bool(0.7) {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    let end: &'static str = format!("{end} PREPARED 'mixed-{name}'").leak();
    sqlx::raw_sql(end).execute(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_a_ring_and_whoever_does_not_nothing_is_lost_or_overtaken() {
    let Some(base) = base::on_ring(&[lab::TOPIC], 7).await else {
        return;
    };
    lab::furnish(&base.pool, KEYS).await;
    let seed = Seed::new();
    let mut seeds = seed.rng();
    let both = Arc::new([
        Outbox::new(base.store.clone()),
        Outbox::new(OutboxStore::postgres(base.pool.clone()).unwrap()),
    ]);
    let well = Arc::new(AtomicBool::new(false));
    let mut relays = JoinSet::new();
    for _ in 0..3 {
        let (both, well, pool) = (both.clone(), well.clone(), base.pool.clone());
        let mut rng = StdRng::seed_from_u64(seeds.random());
        relays.spawn(async move {
            loop {
                let outbox = &both[usize::from(rng.random_bool(0.4))];
                let soon = Backoff::constant(Duration::from_millis(20));
                let policy = TopicPolicy::new()
                    .with_attempts(1000)
                    .with_lapses(1000)
                    .with_backoff(soon.clone())
                    .with_outage_backoff(soon);
                let inbox = Inbox::new(OutboxStore::postgres(pool.clone()).unwrap(), "x").unwrap();
                let destination = lab::Destination {
                    pool: pool.clone(),
                    inbox,
                };
                let publisher = Moody {
                    destination,
                    well: well.clone(),
                };
                let relay = Relay::builder(outbox)
                    .policy(
                        RelayPolicy::new()
                            .with_poll(Duration::from_millis(20))
                            .with_lease(Duration::from_millis(500))
                            .with_batch(rng.random_range(1..40)),
                    )
                    .topic_with(lab::TOPIC, policy, publisher)
                    .build()
                    .unwrap();
                let time = Duration::from_millis(rng.random_range(50..700));
                if rng.random_bool(0.3) {
                    // It is dropped where it is, and its lanes lapse.
                    let _: Result<(), _> = timeout(time, relay.run_until(pending::<()>())).await;
                } else {
                    relay.run_until(sleep(time)).await;
                }
            }
        });
    }
    let emptier = both.clone();
    relays.spawn(async move {
        loop {
            emptier[0].truncate().await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    });
    let mut writers = JoinSet::new();
    let many = short_or_long(120, 3000);
    for number in 0..3_u64 {
        let (both, pool) = (both.clone(), base.pool.clone());
        let mut rng = StdRng::seed_from_u64(seeds.random());
        writers.spawn(async move {
            for n in 0..many {
                let outbox = &both[usize::from(rng.random_bool(0.4))];
                let key = rng.random_range(0..KEYS);
                if rng.random_bool(0.1) {
                    prepared(&pool, outbox, key, number * 1_000_000 + n, &mut rng).await;
                    continue;
                }
                let (time, commits) = (rng.random_range(0..30), rng.random_bool(0.85));
                let hold = async {
                    sleep(Duration::from_millis(time)).await;
                    commits
                };
                lab::change(&pool, outbox, key, hold).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    well.store(true, Ordering::SeqCst);
    let topic = Topic::new(lab::TOPIC).unwrap();
    eventually("all is delivered", PATIENCE, async || {
        let counts = both[0].counts(&topic).await.unwrap();
        (counts.depth == 0).then_some(())
    })
    .await;
    relays.shutdown().await;
    let seen = lab::check(&base.pool, true).await.unwrap();
    println!("{seen:?}");
    assert_eq!(base::rows(&base.pool, "buttress_outbox_ring").await, 1);
    assert_eq!(both[0].counts(&topic).await.unwrap().dead, 0);
}
