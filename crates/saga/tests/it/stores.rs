//! The stores on real databases: futures that are dropped, reads beside writes, servers that are
//! away.

use std::{cell::Cell, sync::Arc, time::Duration};

use buttress_retry_backoff::Backoff;
use buttress_saga::{
    Context, RunnerPolicy, Saga, SagaId, Sagas, StartOptions, State, Step, StepError, StepPolicy,
    store::{Hand, MySqlStore, NewSaga, PostgresStore, SqliteStore, Started, Store, Then, Write},
};
use buttress_store::LeaseTerms;
use buttress_testkit::{
    cancel_sweep::{Point, cancel_sweep},
    clean_pool, mysql, postgres,
    proxy::{Proxy, Way},
};
use sqlx::{
    Connection as _, Executor as _, mysql::MySqlPoolOptions, postgres::PgPoolOptions,
    sqlite::SqlitePoolOptions,
};

use crate::{
    shaky::{Fate, Shaky},
    world::{Scripted, Stopwatch, World},
};

/// One step, which does what it should.
fn one_step() -> Saga<u64> {
    let mut saga = Saga::define("one", 1);
    let world = World::default();
    saga.step(
        "step",
        Scripted {
            name: "step",
            world,
        },
    );
    saga.build().unwrap()
}

/// Drops `start`, `start_in` and a write at each await, and looks each time whether the pool of one
/// connection is as it was, and whether what was begun is there once, or not at all.
macro_rules! swept {
    ($pool:expr, $store:expr) => {{
        let (pool, store, saga) = (&$pool, $store, one_step());
        let sagas = Sagas::new(store.clone());
        let (mut points, number) = (0, Cell::new(0_u8));
        let next = || {
            number.set(number.get() + 1);
            StartOptions::new().id(SagaId::from_bytes([number.get(); 16]))
        };
        let same = || StartOptions::new().id(SagaId::from_bytes([number.get(); 16]));
        let swept = cancel_sweep(
            async || sagas.start(&saga, &1, next()).await,
            async |point| {
                assert_eq!(clean_pool::probe(pool).await.unwrap(), 1, "{point}");
                let again = sagas.start(&saga, &1, same()).await.unwrap();
                let known = matches!(again, Started::Running(_));
                assert!(
                    known || point != Point::Completed,
                    "{point}: it is one saga"
                );
            },
        );
        let swept = swept.await;
        assert!(matches!(swept.output, Ok(Started::New(_))));
        points += swept.points;

        let swept = cancel_sweep(
            async || {
                let options = next();
                let deadline = buttress_store::Deadline::after(Duration::from_secs(5));
                let mut tx = buttress_store::Guarded::begin(pool, deadline)
                    .await
                    .unwrap();
                let started = sagas.start_in(&mut *tx, &saga, &1, options).await;
                tx.commit().await.unwrap();
                started.unwrap().0
            },
            async |point| assert_eq!(clean_pool::probe(pool).await.unwrap(), 1, "{point}"),
        );
        let swept = swept.await;
        assert!(matches!(swept.output, Started::New(_)));
        points += swept.points;

        let parent = swept.output.id();
        let child_of = |parent| NewSaga {
            id: SagaId::random(),
            definition: saga.key().clone(),
            business_key: None,
            input: b"1".to_vec(),
            parent: Some(parent),
        };
        let id = store.start(&child_of(parent)).await.unwrap().id();
        let write = |expected| Write {
            expected,
            entries: vec![buttress_saga::Entry::Interrupted],
            state: State::Running,
            reason: None,
            then: Then::Keep,
            progress: true,
            // With each line a child, and a parent to be woken.
            starts: vec![child_of(id)],
            wakes: Some(parent),
        };
        let swept = cancel_sweep(
            async || {
                let expected = store.read(id).await.unwrap().unwrap().entries;
                store.append(id, Hand::Operator, &write(expected)).await
            },
            async |point| {
                assert_eq!(clean_pool::probe(pool).await.unwrap(), 1, "{point}");
                let found = store.read(id).await.unwrap().unwrap();
                assert_eq!(
                    found.journal.len() as u64,
                    found.entries,
                    "{point}: half of it"
                );
                assert!(point != Point::Completed || found.entries > 0);
                let children = sagas.children(id).await.unwrap().len() as u64;
                assert_eq!(children, found.entries, "{point}: a child for each");
                let woken = store.signals(parent, "any").await.unwrap().count;
                assert_eq!(woken, found.entries, "{point}: woken for each");
            },
        );
        let swept = swept.await;
        assert!(swept.output.unwrap());
        points += swept.points;

        // A signal dropped anywhere was sent or not, and is sent once by sending it again.
        let key = Cell::new(0_u64);
        let swept = cancel_sweep(
            async || {
                key.set(key.get() + 1);
                sagas
                    .signal(id, "paid", key.get().to_be_bytes(), &key.get())
                    .await
            },
            async |point| {
                assert_eq!(clean_pool::probe(pool).await.unwrap(), 1, "{point}");
                let before = store.signals(id, "paid").await.unwrap().count;
                let again = sagas.signal(id, "paid", key.get().to_be_bytes(), &1).await;
                let new = again.unwrap();
                let after = store.signals(id, "paid").await.unwrap().count;
                assert_eq!(after - before, u64::from(new), "{point}");
                assert!(
                    !new || point != Point::Completed,
                    "{point}: it is one signal"
                );
            },
        );
        let swept = swept.await;
        assert!(swept.output.unwrap());
        points += swept.points;

        let swept = cancel_sweep(
            async || {
                key.set(key.get() + 1);
                let deadline = buttress_store::Deadline::after(Duration::from_secs(5));
                let mut tx = buttress_store::Guarded::begin(pool, deadline)
                    .await
                    .unwrap();
                let key = key.get().to_be_bytes();
                let sent = sagas.signal_in(&mut *tx, id, "paid", key, &1).await;
                tx.commit().await.unwrap();
                sent.unwrap().0
            },
            async |point| assert_eq!(clean_pool::probe(pool).await.unwrap(), 1, "{point}"),
        );
        let swept = swept.await;
        assert!(swept.output);
        points += swept.points;
        println!("dropped at {points} points");
        assert!(points >= 10, "{points} points are no sweep");
    }};
}

#[tokio::test]
async fn x1_an_operation_dropped_anywhere_leaves_a_clean_pool_and_no_half_on_postgres() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    // A proxy makes every answer one that is waited for.
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(&url).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    swept!(pool, store);
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn x1_an_operation_dropped_anywhere_leaves_a_clean_pool_and_no_half_on_mysql() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let pool = MySqlPoolOptions::new().max_connections(1);
    let pool = pool.connect(&url).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    swept!(pool, store);
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn x1_an_operation_dropped_anywhere_leaves_a_clean_pool_and_no_half_on_sqlite() {
    let _tally = buttress_testkit::tally::suite("X1");
    let folder = tempfile::tempdir().unwrap();
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let options = buttress_store::sqlite::options(folder.path().join("sagas.db"));
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_lazy_with(options);
    let store = SqliteStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    swept!(pool, store);
}

#[tokio::test]
async fn a_reader_of_its_own_waits_for_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let options = buttress_store::sqlite::options(folder.path().join("sagas.db"));
    let pool = |connections| {
        let pool = SqlitePoolOptions::new().max_connections(connections);
        pool.connect_lazy_with(options.clone())
    };
    let writer = pool(1);
    let store = SqliteStore::new(writer.clone()).unwrap();
    store.migrate().await.unwrap();
    let sagas = Sagas::new(store.with_reader(pool(2)));
    let saga = one_step();
    let started = sagas.start(&saga, &1, StartOptions::new()).await.unwrap();
    let mut busy = writer.acquire().await.unwrap();
    busy.execute("BEGIN IMMEDIATE").await.unwrap();
    // A write that waited in vain keeps others from waiting, and no reads.
    let refused = sagas.start(&saga, &2, StartOptions::new()).await;
    assert!(refused.is_err());
    let asked = Stopwatch::start();
    let found = sagas.histories(&saga, &[started.id()]).await.unwrap();
    assert_eq!((found.len(), found[0].steps.len()), (1, 1));
    sagas.get(started.id()).await.unwrap();
    sagas.census().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    busy.execute("ROLLBACK").await.unwrap();
    busy.ping().await.unwrap();
}

/// Adds one to a counter, together with the end of the step.
struct Count<P>(P);

impl Step for Count<sqlx::SqlitePool> {
    type Input = u64;
    type Output = ();

    async fn run(&self, context: &Context<'_, u64>) -> Result<(), StepError> {
        let failed = |error| StepError::not_done("SQL").because(error);
        let mut tx = self.0.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let add = "UPDATE counter SET count = count + 1";
        tx.execute(add).await.map_err(failed)?;
        context.complete_in(&mut *tx, &()).await?;
        tx.commit().await.map_err(failed)
    }
}

/// A pool that is not hardened can do that: an acknowledged write is never committed.
#[tokio::test]
async fn a_store_that_forgets_the_beginning_of_a_step_makes_no_illegal_journal() {
    let folder = tempfile::tempdir().unwrap();
    let options = buttress_store::sqlite::options(folder.path().join("sagas.db"));
    let pool = sqlx::SqlitePool::connect_lazy_with(options);
    let store = SqliteStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let create = "CREATE TABLE counter (count bigint); INSERT INTO counter VALUES (0)";
    sqlx::raw_sql(create).execute(&pool).await.unwrap();
    let mut saga = Saga::define("forgotten", 1);
    saga.step("one", Count(pool.clone()));
    let saga = saga.build().unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let sagas = Sagas::new(Shaky::new(store, |_| Fate::FirstForgotten));
    let started = sagas.start(&saga, &1, StartOptions::new()).await.unwrap();
    let lease = LeaseTerms::new(Duration::from_millis(300)).unwrap();
    let policy = RunnerPolicy::default().lease(lease);
    let policy = policy.hold(Duration::ZERO).poll(Duration::from_millis(50));
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    let done = async {
        let begun = Stopwatch::start();
        while sagas.get(started.id()).await.unwrap().state.is_active() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is stuck");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    runner.run_until(done).await;
    let history = sagas.history(&saga, started.id()).await.unwrap();
    assert_eq!(history.saga.state, State::Completed, "{history:?}");
    let counted: i64 = sqlx::query_scalar("SELECT count FROM counter")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(counted, 1);
}

impl Step for Count<sqlx::PgPool> {
    type Input = u64;
    type Output = ();

    async fn run(&self, context: &Context<'_, u64>) -> Result<(), StepError> {
        let failed = |error| StepError::not_done("SQL").because(error);
        let mut tx = self.0.begin().await.map_err(failed)?;
        let add = "UPDATE counter SET count = count + 1";
        tx.execute(add).await.map_err(failed)?;
        context.complete_in(&mut *tx, &()).await?;
        tx.commit().await.map_err(failed)
    }
}

// The proxy runs beside what waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_black_hole_under_a_drive_loses_nothing_and_the_runner_goes_on_by_itself() {
    let tally = buttress_testkit::tally::suite("X6");
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let direct = sqlx::PgPool::connect(database.url()).await.unwrap();
    let create = "CREATE TABLE counter (count bigint NOT NULL)";
    sqlx::raw_sql(create).execute(&direct).await.unwrap();
    let fill = "INSERT INTO counter VALUES (0)";
    direct.execute(fill).await.unwrap();
    let (proxy, url) = Proxy::before(database.url()).await.unwrap();
    let patience = Duration::from_secs(1);
    let pool = PgPoolOptions::new().acquire_timeout(patience);
    let pool = buttress_store::Harden::harden(pool);
    let pool = pool.connect(&url).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let policy = StepPolicy::default()
        .timeout(patience)
        .unlimited_attempts()
        .backoff(Backoff::constant(Duration::from_millis(50)));
    let mut saga = Saga::define("counted", 1);
    for name in ["one", "two", "three"] {
        saga.step_with(name, Count(pool.clone()), policy.clone());
    }
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(store);
    let count = 200;
    let mut ids = Vec::new();
    for number in 0..count {
        let started = sagas.start(&saga, &number, StartOptions::new()).await;
        ids.push(started.unwrap().id());
    }
    let lease = LeaseTerms::new(Duration::from_secs(2)).unwrap();
    let policy = RunnerPolicy::default()
        .lease(lease.with_ceiling(1000).unwrap())
        .poll(Duration::from_millis(100));
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    let watch = PostgresStore::new(direct.clone()).unwrap();
    let watch = Sagas::new(watch);
    let all_done = async {
        for way in [Way::ToServer, Way::ToClient] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            proxy.black_hole(way);
            tokio::time::sleep(Duration::from_secs(3)).await;
            proxy.heal().await.unwrap();
        }
        let healed = Stopwatch::start();
        for id in &ids {
            while watch.get(*id).await.unwrap().state.is_active() {
                assert!(
                    healed.elapsed() < Duration::from_secs(60),
                    "it does not go on"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        println!(
            "went on, and was done {:?} after the heal",
            healed.elapsed()
        );
    };
    runner.run_until(all_done).await;
    for history in watch.histories(&saga, &ids).await.unwrap() {
        assert_eq!(history.saga.state, State::Completed, "{history:?}");
    }
    let counted: i64 = sqlx::query_scalar("SELECT count FROM counter")
        .fetch_one(&direct)
        .await
        .unwrap();
    assert_eq!(
        counted,
        i64::try_from(3 * count).unwrap(),
        "each exactly once"
    );
    direct.close().await;
    pool.close().await;
    database.close().await.unwrap();
    tally.operations(3 * count);
}
