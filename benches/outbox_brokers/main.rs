//! What the publishers and consumers of three brokers cost beside the bare client of each, what a
//! relay makes of them, and what an inbox adds: in turns, on private servers.
//!
//! `cargo bench -p buttress-benches --bench outbox_brokers`; a broker's name leaves in that one.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement: it prints, ends at the first error, and reads the clock"
)]

mod nats;
mod rabbitmq;
mod redis_streams;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use buttress_benches::wanted;
use buttress_outbox::{
    Delivery, Inbox, Message, Outbox, OutboxStore, Publisher, Relay, RelayPolicy, Taken,
};
use buttress_testkit::postgres;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::Notify;

/// What producers write and consumers read, as the broker's user names it.
const TOPIC: &str = "orders";
const BATCH: usize = 500;
const ROUNDS: usize = 5;

/// One broker, by our publisher and consumer and by the bare client, on one server.
trait Broker {
    type Publisher: Publisher + Clone;

    const NAME: &'static str;

    fn publisher(&self) -> Self::Publisher;

    /// The same payloads with their ids, all sent and then all confirms awaited.
    fn bare(&self, batch: &[Delivery]) -> impl Future<Output = ()>;

    /// Ours, until the effects have been told of so many messages.
    fn consume(&self, effects: Effects) -> impl Future<Output = ()>;

    /// The bare client's usual loop: fetch some, handle and acknowledge each.
    fn consume_bare(&self, effects: Effects) -> impl Future<Output = ()>;

    /// Nothing is left of what was published.
    fn empty(&self) -> impl Future<Output = ()>;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        if wanted("nats") {
            all(nats::Nats::start().await).await;
        }
        if wanted("rabbitmq") {
            all(rabbitmq::Rabbit::start().await).await;
        }
        if wanted("redis_streams") {
            all(redis_streams::Streams::start().await).await;
        }
    });
}

async fn all<B: Broker>(broker: B) {
    println!("\n## {}", B::NAME);
    println!("| published, messages/s | bare client | ours | ratio |");
    for (batch, messages) in [(1, 300), (BATCH, 10_000)] {
        publish(&broker, batch, messages).await;
    }
    let Some(database) = postgres::fresh_database().await else {
        return println!("PostgreSQL is not there");
    };
    let pool = PgPoolOptions::new().max_connections(10);
    let pool = pool.connect(database.url()).await.unwrap();
    let store = OutboxStore::postgres(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let flat =
        "CREATE TABLE flat (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key BYTEA NOT NULL,
           attributes BYTEA NOT NULL, payload BYTEA NOT NULL, claimed_until BIGINT NOT NULL DEFAULT 0);
         CREATE TABLE seen (id BYTEA PRIMARY KEY);
         CREATE TABLE business (n BIGINT NOT NULL); INSERT INTO business VALUES (0)";
    sqlx::raw_sql(flat).execute(&pool).await.unwrap();
    println!("| relayed, messages/s | bare loop, no order | relay | ratio |");
    for keys in [0, 1000, 10] {
        relay(&broker, &pool, &store, keys).await;
    }
    println!("| consumed, messages/s | bare client | ours | ratio |");
    for with in [With::Nothing, With::Inbox] {
        consume(&broker, &pool, &store, with).await;
    }
    pool.close().await;
}

async fn publish<B: Broker>(broker: &B, batch: usize, messages: usize) {
    let publisher = broker.publisher();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let batches = deliveries(messages, batch);
        let begun = Instant::now();
        for batch in &batches {
            broker.bare(batch).await;
        }
        rates[0].push(rate(messages, begun));
        // The same ids again would be the ones that a stream has already.
        let batches = deliveries(messages, batch);
        let begun = Instant::now();
        for batch in &batches {
            let answers = publisher.publish(batch).await;
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        }
        rates[1].push(rate(messages, begun));
        broker.empty().await;
    }
    row(&format!("{batch} at a time"), rates);
}

async fn relay<B: Broker>(broker: &B, pool: &PgPool, store: &OutboxStore, keys: usize) {
    let messages = if keys == 10 { 2000 } else { 10_000 };
    let outbox = Outbox::new(store.clone());
    let policy = RelayPolicy::new().with_batch(u32::try_from(BATCH).unwrap());
    let relay = Relay::builder(&outbox)
        .policy(policy)
        .topic(TOPIC, broker.publisher());
    let relay = relay.build().unwrap();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        fill(pool, &outbox, keys, messages).await;
        let copy = "INSERT INTO flat (key, attributes, payload)
             SELECT key, attributes, payload FROM buttress_outbox ORDER BY id";
        sqlx::raw_sql(copy).execute(pool).await.unwrap();
        for table in ["ANALYZE flat", "ANALYZE buttress_outbox"] {
            sqlx::raw_sql(table).execute(pool).await.unwrap();
        }
        let begun = Instant::now();
        let done = bare_relay(broker, pool).await;
        rates[0].push(rate(done, begun));
        let begun = Instant::now();
        let done = relay.run_once().await.unwrap().delivered;
        assert_eq!(done, messages);
        rates[1].push(rate(done, begun));
        broker.empty().await;
    }
    let name = if keys == 0 {
        "without a key".to_owned()
    } else {
        format!("{keys} keys")
    };
    row(&name, rates);
}

/// The usual loop: lease some rows, publish them by the bare client, delete them. In no order.
async fn bare_relay<B: Broker>(broker: &B, pool: &PgPool) -> usize {
    let mut done = 0;
    loop {
        let claim = "UPDATE flat SET claimed_until = 1 WHERE id = ANY(ARRAY(
               SELECT id FROM flat WHERE claimed_until = 0 ORDER BY id LIMIT $1
                  FOR UPDATE SKIP LOCKED)) RETURNING id, payload";
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(claim)
            .bind(i64::try_from(BATCH).unwrap())
            .fetch_all(pool)
            .await
            .unwrap();
        if rows.is_empty() {
            return done;
        }
        done += rows.len();
        let (ids, batch): (Vec<i64>, Vec<Delivery>) = rows
            .into_iter()
            .map(|(id, payload)| {
                let message = Message::builder(TOPIC, "/bench", "note").payload(payload);
                let message = message.build().unwrap();
                (id, Delivery::new(message, id, 1, SystemTime::now()))
            })
            .unzip();
        broker.bare(&batch).await;
        let delete = sqlx::query("DELETE FROM flat WHERE id = ANY($1)").bind(ids);
        delete.execute(pool).await.unwrap();
    }
}

async fn fill(pool: &PgPool, outbox: &Outbox, keys: usize, messages: usize) {
    for first in (0..messages).step_by(1000) {
        let some: Vec<Message> = (first..first + 1000).map(|n| note(n, keys)).collect();
        let mut transaction = pool.begin().await.unwrap();
        let wake = outbox.append_all_in(&mut *transaction, &some).await;
        drop(wake.unwrap());
        transaction.commit().await.unwrap();
    }
}

/// What handling a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Nothing,
    Inbox,
}

async fn consume<B: Broker>(broker: &B, pool: &PgPool, store: &OutboxStore, with: With) {
    let messages = 2000;
    let publisher = broker.publisher();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (place, rates) in rates.iter_mut().enumerate() {
            for batch in deliveries(messages, BATCH) {
                for answer in publisher.publish(&batch).await {
                    answer.unwrap();
                }
            }
            let effects = Effects {
                pool: pool.clone(),
                inbox: Inbox::new(store.clone(), "bench").unwrap(),
                with,
                left: Arc::new(AtomicUsize::new(messages)),
                done: Arc::new(Notify::new()),
            };
            let begun = Instant::now();
            if place == 0 {
                broker.consume_bare(effects.clone()).await;
            } else {
                broker.consume(effects.clone()).await;
            }
            rates.push(rate(messages, begun));
            assert_eq!(effects.left.load(Relaxed), 0);
            broker.empty().await;
        }
    }
    let name = match with {
        With::Nothing => "nothing to do",
        With::Inbox => "into the inbox, with a change of a row",
    };
    row(name, rates);
}

/// What becomes of messages, until all have come.
#[derive(Clone)]
struct Effects {
    pool: PgPool,
    inbox: Inbox,
    with: With,
    left: Arc<AtomicUsize>,
    done: Arc<Notify>,
}

impl Effects {
    /// By our inbox.
    async fn ours(&self, id: String) {
        if self.with == With::Inbox {
            let mut transaction = self.pool.begin().await.unwrap();
            let taken = self.inbox.take_in(&mut *transaction, id).await.unwrap();
            assert_eq!(taken, Taken::First);
            let change = sqlx::query("UPDATE business SET n = n + 1");
            change.execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
        self.one_less();
    }

    /// By a table of ids.
    async fn bare(&self, id: &str) {
        if self.with == With::Inbox {
            let mut transaction = self.pool.begin().await.unwrap();
            let seen = "INSERT INTO seen (id) VALUES ($1) ON CONFLICT DO NOTHING";
            let seen = sqlx::query(seen).bind(id.as_bytes());
            let seen = seen.execute(&mut *transaction).await.unwrap();
            assert_eq!(seen.rows_affected(), 1);
            let change = sqlx::query("UPDATE business SET n = n + 1");
            change.execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
        self.one_less();
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.done.notify_one();
        }
    }

    fn is_done(&self) -> bool {
        self.left.load(Relaxed) == 0
    }
}

fn deliveries(messages: usize, batch: usize) -> Vec<Vec<Delivery>> {
    let all: Vec<Delivery> = (0..messages)
        .map(|n| {
            Delivery::new(
                note(n, 1000),
                i64::try_from(n).unwrap(),
                1,
                SystemTime::now(),
            )
        })
        .collect();
    all.chunks(batch).map(<[_]>::to_vec).collect()
}

fn note(number: usize, keys: usize) -> Message {
    let mut message = Message::builder(TOPIC, "/bench", "note").payload(vec![b'x'; 200]);
    if keys > 0 {
        message = message.key((number % keys).to_string());
    }
    message.build().unwrap()
}

fn rate(done: usize, begun: Instant) -> f64 {
    f64::from(u32::try_from(done).unwrap()) / begun.elapsed().as_secs_f64()
}

fn row(name: &str, rates: [Vec<f64>; 2]) {
    let [bare, ours] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("| {name} | {bare:.0} | {ours:.0} | {:.2} |", ours / bare);
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
