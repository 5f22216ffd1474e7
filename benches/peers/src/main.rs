//! The relay beside job queues on PostgreSQL that may be used as one, in turns on one private
//! server: messages of 200 bytes, a handler that says yes.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use apalis::prelude::{BoxDynError, TaskSink as _, WorkerBuilder, WorkerContext};
use apalis_postgres::{Config, PostgresStorage};
use buttress_outbox::{
    Delivery, Message, Outbox, OutboxStore, PublishError, PublishOrder, Publisher, Relay,
    RelayPolicy,
};
use buttress_testkit::postgres;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, WorkerContext as GraphileContext,
    WorkerOptions,
};
use graphile_worker_task_handler::TaskHandler;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use sqlx08::postgres::PgPoolOptions as PgPoolOptions08;
use sqlxmq::{CurrentJob, JobBuilder, JobRunnerOptions};

const BATCH: usize = 500;
const ROUNDS: usize = 3;
/// How many messages: of the fast ones, and of the slow ones.
const MANY: usize = 30_000;
const FEW: usize = 4_000;

#[tokio::main]
async fn main() {
    let Some(database) = postgres::fresh_database().await else {
        return println!("PostgreSQL is not there");
    };
    let url = database.url().to_owned();
    let pool = PgPoolOptions::new().max_connections(20);
    let pool = pool.connect(&url).await.unwrap();
    let ours = Ours::on(&pool).await;
    bare_table(&pool).await;
    PostgresStorage::<()>::setup(&pool).await.unwrap();
    let old = PgPoolOptions08::new().max_connections(20);
    let old = old.connect(&url).await.unwrap();
    sqlxmq_tables(&old).await;
    pgmq_queue(&old).await;
    let names = [
        "bare loop of SKIP LOCKED and DELETE, no order",
        "buttress-outbox, 1,000 keys, each in order, one worker",
        "pgmq, read and delete, one loop",
        "apalis-postgres",
        "graphile_worker, local queue",
        "sqlxmq",
    ];
    let mut rates = names.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        rates[0].push(bare(&pool).await);
        rates[1].push(ours.relay(&pool).await);
        rates[2].push(pgmq_loop(&pool).await);
        rates[3].push(apalis_worker(&pool).await);
        rates[4].push(graphile(&pool).await);
        rates[5].push(sqlxmq_runner(&old).await);
    }
    let rates = rates.map(median);
    println!("| batch {BATCH} where there is one | messages/s | of the bare loop |");
    for (name, rate) in names.iter().zip(rates) {
        println!("| {name} | {rate:.0} | {:.2} |", rate / rates[0]);
    }
}

fn rate(messages: usize, begun: Instant) -> f64 {
    f64::from(u32::try_from(messages).unwrap()) / begun.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Until so many were handled.
async fn until(done: &AtomicUsize, many: usize) {
    while done.load(Ordering::Relaxed) < many {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// Ours.

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

struct Ours(Outbox);

impl Ours {
    async fn on(pool: &PgPool) -> Self {
        let store = OutboxStore::postgres(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        Self(Outbox::new(store))
    }

    async fn relay(&self, pool: &PgPool) -> f64 {
        let note = |n: usize| {
            let message = Message::builder("t", "/peers", "note").key((n % 1000).to_string());
            message.payload(vec![b'x'; 200]).build().unwrap()
        };
        for first in (0..MANY).step_by(5000) {
            let some: Vec<_> = (first..first + 5000).map(note).collect();
            let mut transaction = pool.begin().await.unwrap();
            let appended = self.0.append_all_in(&mut *transaction, &some).await;
            drop(appended.unwrap());
            transaction.commit().await.unwrap();
        }
        analyze(pool, "ANALYZE buttress_outbox").await;
        let policy = RelayPolicy::new().with_batch(u32::try_from(BATCH).unwrap());
        let relay = Relay::builder(&self.0).policy(policy).topic("t", Nowhere);
        let relay = relay.build().unwrap();
        let begun = Instant::now();
        assert_eq!(relay.run_once().await.unwrap().delivered, MANY);
        rate(MANY, begun)
    }
}

async fn analyze(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

// The bare loop.

async fn bare_table(pool: &PgPool) {
    let create = "CREATE TABLE flat (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        payload BYTEA NOT NULL, claimed_until BIGINT NOT NULL DEFAULT 0)";
    sqlx::raw_sql(create).execute(pool).await.unwrap();
}

async fn bare(pool: &PgPool) -> f64 {
    let fill = "INSERT INTO flat (payload) SELECT decode(repeat('78', 200), 'hex')
        FROM generate_series(1, $1)";
    let many = i32::try_from(MANY).unwrap();
    sqlx::query(fill).bind(many).execute(pool).await.unwrap();
    analyze(pool, "ANALYZE flat").await;
    let begun = Instant::now();
    let mut done = 0;
    while done < MANY {
        let claim = "UPDATE flat SET claimed_until = 1 WHERE id = ANY(ARRAY(
               SELECT id FROM flat WHERE claimed_until = 0 ORDER BY id LIMIT $1
                  FOR UPDATE SKIP LOCKED)) RETURNING id, payload";
        let claim = sqlx::query_as(claim).bind(i64::try_from(BATCH).unwrap());
        let rows: Vec<(i64, Vec<u8>)> = claim.fetch_all(pool).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let delete = sqlx::query("DELETE FROM flat WHERE id = ANY($1)").bind(ids);
        delete.execute(pool).await.unwrap();
        done += rows.len();
    }
    rate(MANY, begun)
}

// pgmq: its tables and functions come with its crate; its statements are called as it calls them.

async fn pgmq_queue(pool: &sqlx08::PgPool) {
    pgmq::install::install_sql_from_embedded(pool)
        .await
        .unwrap();
    sqlx08::raw_sql("SELECT pgmq.create('peers')")
        .execute(pool)
        .await
        .unwrap();
}

async fn pgmq_loop(pool: &PgPool) -> f64 {
    let fill = "SELECT pgmq.send('peers', jsonb_build_object('x', repeat('x', 190)))
        FROM generate_series(1, $1)";
    let many = i32::try_from(MANY).unwrap();
    sqlx::query(fill).bind(many).execute(pool).await.unwrap();
    analyze(pool, "ANALYZE pgmq.q_peers").await;
    let begun = Instant::now();
    let mut done = 0;
    while done < MANY {
        let read = "SELECT msg_id, message::text FROM pgmq.read('peers', 60, $1)";
        let read = sqlx::query_as(read).bind(i32::try_from(BATCH).unwrap());
        let rows: Vec<(i64, String)> = read.fetch_all(pool).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let delete = sqlx::query("SELECT pgmq.delete('peers', $1)").bind(ids);
        delete.execute(pool).await.unwrap();
        done += rows.len();
    }
    rate(MANY, begun)
}

// apalis-postgres.

static NAMES: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    text: String,
}

async fn apalis_worker(pool: &PgPool) -> f64 {
    let config = Config::default()
        .queue("peers")
        .batch_size(BATCH)
        .lock_tasks(false);
    let mut backend: PostgresStorage<Note> = PostgresStorage::new(pool).with_config(config);
    let text = "x".repeat(190);
    let notes = (0..FEW * 2).map(|_| Note { text: text.clone() });
    backend.push_bulk(notes.collect()).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let handle = move |note: Note, worker: WorkerContext| {
        let count = Arc::clone(&count);
        async move {
            assert!(!note.text.is_empty());
            if count.fetch_add(1, Ordering::Relaxed) + 1 == FEW * 2 {
                worker.stop()?;
            }
            Ok::<(), BoxDynError>(())
        }
    };
    // A name is taken for as long as its heartbeat is young, and each round is another worker.
    let name = format!("peers-{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let worker = WorkerBuilder::new(name).backend(backend).build(handle);
    let begun = Instant::now();
    worker.run().await.unwrap();
    assert_eq!(done.load(Ordering::Relaxed), FEW * 2);
    rate(FEW * 2, begun)
}

// graphile_worker.

static GRAPHILE: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Deserialize, Serialize)]
struct GraphileNote {
    text: String,
}

impl TaskHandler for GraphileNote {
    const IDENTIFIER: &'static str = "note";

    async fn run(self, _: GraphileContext) -> impl IntoTaskHandlerResult {
        assert!(!self.text.is_empty());
        GRAPHILE.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

async fn graphile(pool: &PgPool) -> f64 {
    let worker = WorkerOptions::default()
        .concurrency(16)
        .schema("graphile")
        .define_job::<GraphileNote>()
        .pg_pool(pool.clone())
        .local_queue(LocalQueueConfig::default().with_size(BATCH))
        .init()
        .await
        .unwrap();
    let spec = JobSpec::default();
    let text = "x".repeat(190);
    let notes: Vec<_> = (0..FEW)
        .map(|_| (GraphileNote { text: text.clone() }, &spec))
        .collect();
    worker
        .create_utils()
        .add_jobs::<GraphileNote>(&notes)
        .await
        .unwrap();
    GRAPHILE.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::select! {
        ended = worker.run() => ended.unwrap(),
        () = until(&GRAPHILE, FEW) => {}
    }
    rate(FEW, begun)
}

// sqlxmq.

async fn sqlxmq_tables(pool: &sqlx08::PgPool) {
    // It asks for its migrations to be copied; they lie in its package.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let cargo = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let sqlxmq = packages.iter().find(|it| it["name"] == "sqlxmq").unwrap();
    let folder = std::path::Path::new(sqlxmq["manifest_path"].as_str().unwrap());
    let folder = folder.with_file_name("migrations");
    let mut migrator = sqlx08::migrate::Migrator::new(folder).await.unwrap();
    // apalis has a table of migrations in this database too.
    migrator.set_ignore_missing(true);
    migrator.run(pool).await.unwrap();
}

async fn sqlxmq_runner(pool: &sqlx08::PgPool) -> f64 {
    let text = vec![b'x'; 200];
    let mut transaction = pool.begin().await.unwrap();
    for _ in 0..FEW {
        let mut job = JobBuilder::new("note");
        let job = job.set_channel_name("peers").set_raw_bytes(&text);
        job.spawn(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let handle = move |mut job: CurrentJob| {
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            assert!(job.raw_bytes().is_some());
            job.complete().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        });
    };
    let mut options = JobRunnerOptions::new(pool, handle);
    let options = options
        .set_concurrency(50, 100)
        .set_channel_names(&["peers"]);
    let begun = Instant::now();
    let mut runner = options.run().await.unwrap();
    until(&done, FEW).await;
    let rate = rate(FEW, begun);
    runner.stop().await;
    rate
}
