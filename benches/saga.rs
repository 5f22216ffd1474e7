//! What a saga costs: steps a second beside a bare loop of as many commits, on PostgreSQL and SQLite,
//! and beside steno in memory; in turns, on private databases.
//!
//! `cargo bench -p buttress-benches --bench saga`; numbers behind `--` choose how many at once.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement: it prints, ends at the first error, and reads the clock"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use buttress_saga::{
    Context, Event, EventKind, RunnerBuilder, RunnerPolicy, Saga, Sagas, StartOptions, Step,
    StepError,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
};
use buttress_store::sqlite;
use buttress_testkit::postgres;
use sqlx::{PgPool, SqlitePool, postgres::PgPoolOptions};
use tokio::{sync::Notify, task::JoinSet};

const STEPS: u32 = 5;
const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
const CHILD: &str = "child";
const ROUNDS: usize = 5;

struct Nothing;

impl Step for Nothing {
    type Input = u32;
    type Output = u32;

    async fn run(&self, context: &Context<'_, u32>) -> Result<u32, StepError> {
        Ok(*context.input())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(all());
}

async fn all() {
    println!(
        "| database | sagas at once | bare commits /s | saga's commits /s | ratio | steps /s |"
    );
    if let Some(database) = postgres::fresh_database().await {
        let pool = PgPoolOptions::new().max_connections(48);
        let pool = pool.connect(database.url()).await.unwrap();
        let store = PostgresStore::new(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE head (id BIGINT PRIMARY KEY, n BIGINT NOT NULL);
             INSERT INTO head SELECT n, 0 FROM generate_series(0, 255) n;
             CREATE TABLE line (id BIGINT, n BIGINT, entry BYTEA, PRIMARY KEY (id, n))",
        )
        .execute(&pool)
        .await
        .unwrap();
        let bare = Bare::Postgres(pool);
        let store = Arc::new(store);
        rows("PostgreSQL", &store, &bare).await;
        children("PostgreSQL", &store).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let pool = SqlitePool::connect_lazy_with(sqlite::options(folder.path().join("sagas.db")));
    let store = SqliteStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE head (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
         WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c WHERE x < 255) INSERT INTO head SELECT x, 0 FROM c;
         CREATE TABLE line (id INTEGER, n INTEGER, entry BLOB, PRIMARY KEY (id, n)) WITHOUT ROWID",
    )
    .execute(&pool)
    .await
    .unwrap();
    let bare = Bare::Sqlite(sqlite::Writer::new(pool));
    let store = Arc::new(store);
    rows("SQLite", &store, &bare).await;
    children("SQLite", &store).await;
    memory().await;
    children("memory", &Arc::new(MemoryStore::new())).await;
}

/// What it costs to have the steps in a child: the same five, in the saga itself and in a child that
/// is all it has.
async fn children<S: Store>(name: &str, store: &Arc<S>) {
    println!("| database | at once | five steps, sagas /s | in a child, sagas /s | ratio |");
    for at_once in at_once() {
        let count = if at_once == 1 { 60 } else { 400 };
        let (mut plain, mut nested) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let store = || Arc::clone(store) as Arc<dyn Store>;
            plain.push(drive(store(), at_once, count).await / f64::from(STEPS + 1));
            nested.push(drive_nested(store(), at_once, count).await);
        }
        let (plain, nested) = (median(plain), median(nested));
        println!(
            "| {name} | {at_once} | {plain:.0} | {nested:.0} | {:.2} |",
            nested / plain
        );
    }
}

async fn rows<S: Store>(name: &str, store: &Arc<S>, bare: &Bare) {
    for at_once in at_once() {
        let count = if at_once == 1 { 60 } else { 400 };
        let (mut bares, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bares.push(bare.commits(at_once, count * (STEPS + 1)).await);
            ours.push(drive(Arc::clone(store) as Arc<dyn Store>, at_once, count).await);
        }
        let (bare, ours) = (median(bares), median(ours));
        println!(
            "| {name} | {at_once} | {bare:.0} | {ours:.0} | {:.2} | {:.0} |",
            ours / bare,
            ours * f64::from(STEPS) / f64::from(STEPS + 1)
        );
    }
}

/// How many sagas at once: those asked for, or all.
fn at_once() -> Vec<u32> {
    let asked: Vec<u32> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    if asked.is_empty() {
        vec![1, 16, 256]
    } else {
        asked
    }
}

/// Steps a second in memory, ours and steno's.
async fn memory() {
    println!("| in memory | sagas at once | steno steps /s | ours steps /s | ratio |");
    for at_once in at_once() {
        let count = if at_once == 1 { 200 } else { 1000 };
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(steno(at_once, count).await);
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let rate = drive(store, at_once, count).await;
            ours.push(rate * f64::from(STEPS) / f64::from(STEPS + 1));
        }
        let (theirs, ours) = (median(theirs), median(ours));
        println!(
            "| memory | {at_once} | {theirs:.0} | {ours:.0} | {:.2} |",
            ours / theirs
        );
    }
}

#[derive(Debug)]
struct Steno;

impl steno::SagaType for Steno {
    type ExecContextType = ();
}

/// The same sagas by steno, steps a second: created before, then so many run at once.
async fn steno(at_once: u32, count: u32) -> f64 {
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let store = Arc::new(steno::InMemorySecStore::new());
    let client = Arc::new(steno::sec(log, store));
    let mut registry = steno::ActionRegistry::<Steno>::new();
    let action = steno::new_action_noop_undo("nothing", nothing);
    registry.register(Arc::clone(&action));
    let registry = Arc::new(registry);
    let mut created = Vec::new();
    for number in 0..count {
        let mut dag = steno::DagBuilder::new(steno::SagaName::new("bench"));
        for name in NAMES {
            dag.append(steno::Node::action(name, name, action.as_ref()));
        }
        let dag = steno::SagaDag::new(dag.build().unwrap(), number.into());
        let id = steno::SagaId::new_v4();
        let (context, dag) = (Arc::new(()), Arc::new(dag));
        let ended = client.saga_create(id, context, dag, Arc::clone(&registry));
        created.push((id, ended.await.unwrap()));
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (id, ended) in created {
        while tasks.len() >= at_once as usize {
            tasks.join_next().await.unwrap().unwrap();
        }
        client.saga_start(id).await.unwrap();
        tasks.spawn(async move { assert!(ended.await.kind.is_ok()) });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    f64::from(count * STEPS) / begun.elapsed().as_secs_f64()
}

async fn nothing(context: steno::ActionContext<Steno>) -> Result<u32, steno::ActionError> {
    context.saga_params::<u32>()
}

/// Commits of journals a second, claims not counted: so many sagas of five steps, so many at once.
async fn drive(store: Arc<dyn Store>, at_once: u32, count: u32) -> f64 {
    let saga = five("bench");
    let sagas = Sagas::shared(store);
    let took = settle(&sagas, &saga, sagas.runner().saga(&saga), at_once, count).await;
    f64::from(count * (STEPS + 1)) / took.as_secs_f64()
}

/// Sagas a second whose steps are a child's.
async fn drive_nested(store: Arc<dyn Store>, at_once: u32, count: u32) -> f64 {
    let child = five(CHILD);
    let mut saga = Saga::define("parent", 1);
    saga.child("all", &child, |it| Ok(*it.input()));
    let saga = saga.build().unwrap();
    let sagas = Sagas::shared(store);
    let runner = sagas.runner().saga(&saga).saga(&child);
    let took = settle(&sagas, &saga, runner, at_once, count).await;
    f64::from(count) / took.as_secs_f64()
}

fn five(name: &str) -> Saga<u32, ()> {
    let mut saga = Saga::define(name, 1);
    for name in NAMES {
        saga.step(name, Nothing);
    }
    saga.build().unwrap()
}

/// How long it takes until so many sagas of this kind rest.
async fn settle(
    sagas: &Sagas,
    saga: &Saga<u32, ()>,
    runner: RunnerBuilder,
    at_once: u32,
    count: u32,
) -> Duration {
    for number in 0..count {
        let started = sagas.start(saga, &number, StartOptions::new()).await;
        started.unwrap();
    }
    let (left, all) = (Arc::new(AtomicU32::new(count)), Arc::new(Notify::new()));
    let done = Arc::clone(&all);
    let policy = RunnerPolicy::default().concurrency(at_once as usize);
    let runner = runner.policy(policy).observer(move |event: &Event| {
        let rests = event.name != CHILD && matches!(event.kind, EventKind::Rested { .. });
        if rests && left.fetch_sub(1, Relaxed) == 1 {
            done.notify_one();
        }
    });
    let runner = runner.build().unwrap();
    let begun = Instant::now();
    runner.run_until(async move { all.notified().await }).await;
    let took = begun.elapsed();
    while sagas.prune(Duration::ZERO, 1000).await.unwrap() > 0 {}
    took
}

/// A row changed and a row added in one commit, as a journal does it, and nothing else.
enum Bare {
    Postgres(PgPool),
    Sqlite(sqlite::Writer),
}

impl Bare {
    async fn commits(&self, at_once: u32, count: u32) -> f64 {
        let left = Arc::new(AtomicU32::new(count));
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for id in 0..i64::from(at_once) {
            let left = Arc::clone(&left);
            let next = move || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            match self {
                Self::Postgres(pool) => {
                    let pool = pool.clone();
                    tasks.spawn(async move {
                        while let Ok(n) = next() {
                            let commit = sqlx::query(
                                "WITH moved AS (UPDATE head SET n = n + 1 WHERE id = $1 RETURNING id)
                                 INSERT INTO line SELECT id, $2, $3 FROM moved",
                            );
                            let commit = commit.bind(id).bind(i64::from(n)).bind(ENTRY);
                            commit.execute(&pool).await.unwrap();
                        }
                    });
                }
                Self::Sqlite(writer) => {
                    let writer = writer.clone();
                    tasks.spawn(async move {
                        while let Ok(n) = next() {
                            let deadline = buttress_store::Deadline::after(Duration::from_secs(60));
                            let mut commit = writer.begin(deadline).await.unwrap();
                            let head = sqlx::query("UPDATE head SET n = n + 1 WHERE id = ?");
                            head.bind(id).execute(&mut *commit).await.unwrap();
                            let line = sqlx::query("INSERT INTO line VALUES (?, ?, ?)");
                            let line = line.bind(id).bind(i64::from(n)).bind(ENTRY);
                            line.execute(&mut *commit).await.unwrap();
                            commit.commit().await.unwrap();
                        }
                    });
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        match self {
            Self::Postgres(pool) => drop(sqlx::query("DELETE FROM line").execute(pool).await),
            Self::Sqlite(writer) => {
                drop(sqlx::query("DELETE FROM line").execute(writer.pool()).await);
            }
        }
        rate
    }
}

/// Of the length of a journal's lines.
const ENTRY: &[u8] =
    br#"{"succeeded":{"step":3,"output":"17"}},{"started":{"step":4,"name":"five"}}"#;

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
