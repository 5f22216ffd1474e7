//! What an outbox costs on PostgreSQL: a row in the business transaction, and a relay beside the
//! bare loop of SKIP LOCKED and DELETE, in turns on one private server.
//!
//! `cargo bench -p buttress-benches --bench outbox`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement: it prints, ends at the first error, and reads the clock"
)]

use std::time::{Duration, Instant};

use buttress_outbox::{
    Delivery, Message, Outbox, OutboxStore, PublishError, PublishOrder, Publisher, Relay,
    RelayPolicy,
};
use buttress_testkit::postgres;
use sqlx::{PgPool, postgres::PgPoolOptions};

const BATCH: i64 = 500;
const ROUNDS: usize = 5;

/// Id, key, attributes, payload.
type Claimed = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(all());
}

async fn all() {
    if std::env::args().any(|it| it == "ring") {
        return ring().await;
    }
    let Some(database) = postgres::fresh_database().await else {
        return println!("PostgreSQL is not there");
    };
    let pool = PgPoolOptions::new().max_connections(40);
    let pool = pool.connect(database.url()).await.unwrap();
    let store = OutboxStore::postgres(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let outbox = Outbox::new(store);
    sqlx::raw_sql(
        "CREATE TABLE business (id BIGINT PRIMARY KEY, n BIGINT NOT NULL);
         INSERT INTO business SELECT n, 0 FROM generate_series(0, 31) n;
         CREATE TABLE bare (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key BYTEA NOT NULL,
           attributes BYTEA NOT NULL, payload BYTEA NOT NULL);
         CREATE TABLE flat (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key BYTEA NOT NULL,
           attributes BYTEA NOT NULL, payload BYTEA NOT NULL, claimed_until BIGINT NOT NULL DEFAULT 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    println!(
        "| clients | bare tx/s | with pg_notify | with a bare INSERT | with the outbox row \
         | of the bare INSERT | one statement, bare | with the outbox row |"
    );
    for clients in [1, 8, 32] {
        append(&pool, &outbox, clients).await;
    }
    println!("| messages of 200 bytes, batch 500, one worker | bare loop /s | relay /s | ratio |");
    for (name, keys) in [
        ("no order: without a key", 0),
        ("a key each", 50_000),
        ("1,000 keys", 1000),
        ("10 keys", 10),
    ] {
        relay(&pool, &outbox, name, keys, 50_000).await;
    }
    let mut pin = pool.begin().await.unwrap();
    let pinned = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM business";
    sqlx::raw_sql(pinned).execute(&mut *pin).await.unwrap();
    relay(
        &pool,
        &outbox,
        "1,000 keys, an old snapshot pinned",
        1000,
        50_000,
    )
    .await;
    pin.rollback().await.unwrap();
    drop(database);
    ring().await;
}

/// The table, where each message is deleted, and the ring, whose pieces are emptied: in turns.
async fn ring() {
    const MESSAGES: usize = 100_000;
    println!(
        "| of {MESSAGES} messages | appended and delivered at once /s | dead tuples behind it \
         | of tables and indexes |"
    );
    for pinned in [false, true] {
        let mut rates = [Vec::new(), Vec::new()];
        let mut left = [(0, 0), (0, 0)];
        for _ in 0..3 {
            for (place, ring) in [false, true].into_iter().enumerate() {
                let Some(database) = postgres::fresh_database().await else {
                    return println!("PostgreSQL is not there");
                };
                let pool = PgPoolOptions::new().max_connections(20);
                let pool = pool.connect(database.url()).await.unwrap();
                let mut pin = pool.acquire().await.unwrap();
                if pinned {
                    let pinned = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class";
                    sqlx::raw_sql(pinned).execute(&mut *pin).await.unwrap();
                }
                rates[place].push(at_once(&pool, ring, MESSAGES).await);
                left[place] = behind(&pool).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut *pin).await.unwrap();
                drop(pin);
                pool.close().await;
            }
        }
        let behind = if pinned {
            ", an old snapshot pinned"
        } else {
            ""
        };
        for ((name, rates), (dead, size)) in ["table", "ring"].iter().zip(rates).zip(left) {
            let rate = median(rates);
            println!("| {name}{behind} | {rate:.0} | {dead} | {size} MiB |");
        }
    }
}

/// Four writers, fifty messages a commit, and a relay beside them: messages a second until all is
/// delivered.
async fn at_once(pool: &PgPool, ring: bool, messages: usize) -> f64 {
    let mut store = OutboxStore::postgres(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    if ring {
        store = store.with_ring(["orders"]).unwrap();
    }
    let outbox = Outbox::new(store);
    let relay = Relay::builder(&outbox).topic("orders", Nowhere);
    let relay = relay.build().unwrap();
    relay.run_once().await.unwrap();
    let topic = buttress_outbox::Topic::new("orders").unwrap();
    let begun = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (pool, outbox) = (pool.clone(), outbox.clone());
        writers.spawn(async move {
            for first in (0..messages / 4).step_by(50) {
                let some: Vec<Message> = (first..first + 50)
                    .map(|n| note(writer * 250 + n, 1000))
                    .collect();
                let mut transaction = pool.begin().await.unwrap();
                let wake = outbox.append_all_in(&mut *transaction, &some).await;
                transaction.commit().await.unwrap();
                wake.unwrap().fire();
            }
        });
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let done = async {
        writers.join_all().await;
        while outbox.counts(&topic).await.unwrap().depth > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let rate = rate(messages, begun);
        if ring {
            // What a relay that runs does each 5 s.
            outbox.truncate().await.unwrap();
        }
        drop(stop);
        rate
    };
    let relaying = relay.run_until(async {
        let _ = stopped.await;
    });
    tokio::join!(done, relaying).0
}

/// Dead tuples, and MiB, of all tables of the outbox.
async fn behind(pool: &PgPool) -> (i64, i64) {
    // A connection tells what it did when it does something, at most once a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut all = Vec::new();
    for _ in 0..pool.num_idle() {
        let mut one = pool.acquire().await.unwrap();
        sqlx::raw_sql("SELECT 1").execute(&mut *one).await.unwrap();
        all.push(one);
    }
    let sql =
        "SELECT sum(n_dead_tup)::bigint, (sum(pg_total_relation_size(relid)) / 1048576)::bigint
         FROM pg_stat_user_tables WHERE relname LIKE 'buttress_outbox%'";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

/// What goes with the change of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Notify,
    /// Another row, by the simplest statement: what one more statement costs by itself.
    Bare,
    Outbox,
    /// The change is a commit by itself.
    Alone,
    /// The append rides in it.
    Riding,
}

const ALL: [With; 6] = [
    With::Nothing,
    With::Notify,
    With::Bare,
    With::Outbox,
    With::Alone,
    With::Riding,
];

async fn append(pool: &PgPool, outbox: &Outbox, clients: i64) {
    let mut rates = ALL.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (place, with) in ALL.into_iter().enumerate() {
            rates[place].push(business(pool, outbox, clients, with).await);
        }
    }
    let [nothing, notify, bare, ours, alone, riding] = rates.map(median);
    println!(
        "| {clients} | {nothing:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {alone:.0} | {:.2} |",
        notify / nothing,
        bare / nothing,
        ours / nothing,
        ours / bare,
        riding / alone,
    );
    sqlx::raw_sql("TRUNCATE buttress_outbox, bare")
        .execute(pool)
        .await
        .unwrap();
}

const CHANGE: &str = "UPDATE business SET n = n + 1 WHERE id = $1";

/// Transactions a second: one row changed, and what goes with it.
async fn business(pool: &PgPool, outbox: &Outbox, clients: i64, with: With) -> f64 {
    let begun = Instant::now();
    let time = Duration::from_millis(500);
    let append = outbox.append_after("changed", 2).unwrap();
    let riding = format!("WITH changed AS ({CHANGE} RETURNING 1) {}", append.sql());
    let riding: std::sync::Arc<str> = riding.into();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (pool, outbox, append) = (pool.clone(), outbox.clone(), append.clone());
        let riding = riding.clone();
        tasks.spawn(async move {
            let message = note(usize::try_from(client).unwrap(), 1000);
            let mut done = 0_u32;
            while begun.elapsed() < time {
                done += 1;
                if with == With::Alone {
                    let change = sqlx::query(CHANGE).bind(client);
                    change.execute(&pool).await.unwrap();
                    continue;
                }
                if with == With::Riding {
                    let both = sqlx::query(sqlx::AssertSqlSafe(std::sync::Arc::clone(&riding)))
                        .bind(client);
                    let both = append.bind(both, &message);
                    both.execute(&pool).await.unwrap();
                    continue;
                }
                let mut transaction = pool.begin().await.unwrap();
                let change = sqlx::query(CHANGE).bind(client);
                change.execute(&mut *transaction).await.unwrap();
                match with {
                    With::Notify => {
                        let notify = sqlx::query("SELECT pg_notify('orders', 'x')");
                        notify.execute(&mut *transaction).await.unwrap();
                    }
                    With::Bare => {
                        let insert = "INSERT INTO bare (key, attributes, payload)
                             VALUES ($1, $2, $3)";
                        let insert = sqlx::query(insert).bind(&b"key"[..]).bind(&ATTRIBUTES[..]);
                        let insert = insert.bind(&message.payload()[..]);
                        insert.execute(&mut *transaction).await.unwrap();
                    }
                    With::Outbox => {
                        let wake = outbox.append_in(&mut *transaction, &message).await;
                        drop(wake.unwrap());
                    }
                    With::Nothing | With::Alone | With::Riding => {}
                }
                transaction.commit().await.unwrap();
            }
            done
        });
    }
    let done: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(done) / begun.elapsed().as_secs_f64()
}

/// As long as the attributes of [`note`]'s messages are.
const ATTRIBUTES: [u8; 90] = [b'a'; 90];

fn note(number: usize, keys: usize) -> Message {
    let mut message = Message::builder("orders", "/bench", "note").payload(vec![b'x'; 200]);
    if keys > 0 {
        message = message.key((number % keys).to_string());
    }
    message.build().unwrap()
}

/// Takes everything at once and says yes.
struct Nowhere;

#[async_trait::async_trait]
impl Publisher for Nowhere {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    fn order(&self) -> PublishOrder {
        PublishOrder::WholeRuns
    }
}

async fn relay(pool: &PgPool, outbox: &Outbox, name: &str, keys: usize, messages: usize) {
    let mut rates = [Vec::new(), Vec::new()];
    let policy = RelayPolicy::new().with_batch(u32::try_from(BATCH).unwrap());
    let relay = Relay::builder(outbox)
        .policy(policy)
        .topic("orders", Nowhere);
    let relay = relay.build().unwrap();
    for _ in 0..3 {
        fill(pool, outbox, keys, messages).await;
        sqlx::raw_sql(
            "INSERT INTO flat (key, attributes, payload)
             SELECT key, attributes, payload FROM buttress_outbox ORDER BY id",
        )
        .execute(pool)
        .await
        .unwrap();
        sqlx::raw_sql("ANALYZE flat").execute(pool).await.unwrap();
        sqlx::raw_sql("ANALYZE buttress_outbox")
            .execute(pool)
            .await
            .unwrap();
        let begun = Instant::now();
        let done = bare(pool).await;
        rates[0].push(rate(done, begun));
        let begun = Instant::now();
        let done = relay.run_once().await.unwrap().delivered;
        assert_eq!(done, messages);
        rates[1].push(rate(done, begun));
    }
    let [bare, ours] = rates.map(median);
    println!("| {name} | {bare:.0} | {ours:.0} | {:.2} |", ours / bare);
}

async fn fill(pool: &PgPool, outbox: &Outbox, keys: usize, messages: usize) {
    for first in (0..messages).step_by(5000) {
        let some: Vec<Message> = (first..first + 5000).map(|n| note(n, keys)).collect();
        let mut transaction = pool.begin().await.unwrap();
        drop(
            outbox
                .append_all_in(&mut *transaction, &some)
                .await
                .unwrap(),
        );
        transaction.commit().await.unwrap();
    }
}

/// The usual loop: claim a batch by an UPDATE with SKIP LOCKED that leases the rows and returns
/// them, publish nothing, delete them.
async fn bare(pool: &PgPool) -> usize {
    let mut done = 0;
    loop {
        let claim = "UPDATE flat SET claimed_until = 1 WHERE id = ANY(ARRAY(
               SELECT id FROM flat WHERE claimed_until = 0 ORDER BY id LIMIT $1
                  FOR UPDATE SKIP LOCKED)) RETURNING id, key, attributes, payload";
        let rows: Vec<Claimed> = sqlx::query_as(claim)
            .bind(BATCH)
            .fetch_all(pool)
            .await
            .unwrap();
        if rows.is_empty() {
            return done;
        }
        done += rows.len();
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let delete = sqlx::query("DELETE FROM flat WHERE id = ANY($1)").bind(ids);
        delete.execute(pool).await.unwrap();
    }
}

fn rate(done: usize, begun: Instant) -> f64 {
    f64::from(u32::try_from(done).unwrap()) / begun.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
