//! Every future dropped at every point at which it waits.

use std::time::Duration;

use buttress_idempotency::{
    Abandoned, Begin, Idempotency, Key, Policy,
    store::{MySqlStore, PostgresStore, Store},
};
use buttress_store::{Deadline, Guarded, SqlDatabase};
use buttress_testkit::{
    cancel_sweep::CancelSweep, clean_pool, eventually, proxy::Proxy, redis::fresh_prefix,
};

use sqlx::Pool;

use crate::stand::{ASKED, OnMySql, OnPostgres, OnSqlite, SECOND, key, new, on_redis};

/// One lucky run is not the end: SQLite answers from a thread, which may be faster than we look.
fn sweep() -> CancelSweep {
    CancelSweep::default().confirmed(4)
}

/// Keys that are abandoned are released, so that a key that stays taken was lost.
fn releasing(store: impl Store + 'static) -> Idempotency {
    let policy = Policy::builder()
        .abandoned(Abandoned::Release)
        .build()
        .unwrap();
    Idempotency::builder(store).policy(policy).build()
}

/// A begin that is dropped anywhere leaves no key taken.
async fn sweep_begin(store: impl Store + 'static) -> u32 {
    let idempotency = releasing(store);
    let key = key("begin");
    let swept = sweep()
        .run(
            async || drop(idempotency.begin(&key, &ASKED).await.unwrap()),
            async |_| {
                eventually("the key is free", 10 * SECOND, async || {
                    match idempotency.begin(&key, &ASKED).await.unwrap() {
                        Begin::New(guard) => guard.release().await.ok(),
                        _ => None,
                    }
                })
                .await;
            },
        )
        .await;
    swept.points
}

/// An outcome whose recording is dropped anywhere, once it has begun, is recorded.
async fn sweep_complete(store: impl Store + 'static) -> u32 {
    let idempotency = releasing(store);
    let round = std::cell::Cell::new(0_u32);
    let name = || key(&format!("complete {}", round.get()));
    let guard =
        std::cell::RefCell::new(Some(new(idempotency.begin(&name(), &ASKED).await.unwrap())));
    let swept = sweep()
        .run(
            async || {
                let guard = guard.borrow_mut().take().unwrap();
                guard.complete("done").await.unwrap();
            },
            async |_| {
                eventually("it is recorded", 10 * SECOND, async || {
                    match idempotency.begin(&name(), &ASKED).await.unwrap() {
                        Begin::Replay(outcome) => (outcome == "done").then_some(()),
                        Begin::New(_) => panic!("the work would be done again"),
                        _ => None,
                    }
                })
                .await;
                round.set(round.get() + 1);
                let next = new(idempotency.begin(&name(), &ASKED).await.unwrap());
                *guard.borrow_mut() = Some(next);
            },
        )
        .await;
    swept.points
}

/// A release, a doubt: done although nobody waits.
async fn sweep_end(store: impl Store + 'static, releases: bool) -> u32 {
    let idempotency = Idempotency::new(store);
    let round = std::cell::Cell::new(0_u32);
    let name = || key(&format!("end {releases} {}", round.get()));
    let guard =
        std::cell::RefCell::new(Some(new(idempotency.begin(&name(), &ASKED).await.unwrap())));
    let swept = sweep()
        .run(
            async || {
                let guard = guard.borrow_mut().take().unwrap();
                match releases {
                    true => guard.release().await.unwrap(),
                    false => guard.keep_unknown().await.unwrap(),
                }
            },
            async |_| {
                eventually("it is ended", 10 * SECOND, async || {
                    match idempotency.begin(&name(), &ASKED).await.unwrap() {
                        Begin::New(guard) if releases => guard.release().await.ok(),
                        Begin::InFlight { retry_after } if !releases => {
                            (retry_after > SECOND).then_some(())
                        }
                        _ => None,
                    }
                })
                .await;
                round.set(round.get() + 1);
                let next = new(idempotency.begin(&name(), &ASKED).await.unwrap());
                *guard.borrow_mut() = Some(next);
            },
        )
        .await;
    swept.points
}

/// A phase whose recording is dropped anywhere, once it has begun, is recorded.
async fn sweep_phase(store: impl Store + 'static) -> u32 {
    let idempotency = Idempotency::new(store);
    let round = std::cell::Cell::new(0_u32);
    let name = || key(&format!("phase {}", round.get()));
    let first = new(idempotency.begin(&name(), &ASKED).await.unwrap());
    let guard = tokio::sync::Mutex::new(Some(first));
    let swept = sweep()
        .run(
            async || {
                let mut guard = guard.lock().await;
                let guard = guard.as_mut().unwrap();
                guard.phase("ride", &round.get()).await.unwrap();
            },
            async |_| {
                // Said again by the same guard, it is the same phase.
                let mut his = guard.lock().await.take().unwrap();
                his.phase("ride", &round.get()).await.unwrap();
                his.release().await.unwrap();
                let mut next = new(idempotency.begin(&name(), &ASKED).await.unwrap());
                assert_eq!(next.passed("ride").unwrap(), Some(round.get()));
                next.complete("done").await.unwrap();
                round.set(round.get() + 1);
                let next = new(idempotency.begin(&name(), &ASKED).await.unwrap());
                *guard.lock().await = Some(next);
            },
        )
        .await;
    swept.points
}

/// A transaction with a phase, dropped anywhere: the ride and the phase are both there or neither.
async fn sweep_phase_in<DB: SqlDatabase>(pool: &Pool<DB>, store: impl Store + 'static)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64,): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let idempotency = releasing(store);
    let mut connection = pool.acquire().await.unwrap();
    let create = sqlx::query::<DB>("CREATE TABLE rides (id BIGINT)");
    create.execute(&mut *connection).await.unwrap();
    drop(connection);
    let (round, written) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0));
    let name = || key(&format!("phase in {}", round.get()));
    let swept = sweep()
        .run(
            async || {
                let mut guard = new(idempotency.begin(&name(), &ASKED).await.unwrap());
                let deadline = Deadline::after(Deadline::SQL);
                let mut transaction = Guarded::begin(pool, deadline).await.unwrap();
                let ride = sqlx::query::<DB>("INSERT INTO rides VALUES (7)");
                ride.execute(&mut *transaction).await.unwrap();
                let passed = guard.phase_in(&mut *transaction, "ride", &7_u64).await;
                passed.unwrap();
                transaction.commit().await.unwrap();
                guard.release().await.unwrap();
            },
            async |_| {
                let passed =
                    eventually(
                        "it can be had again",
                        10 * SECOND,
                        async || match idempotency.begin(&name(), &ASKED).await.ok()? {
                            Begin::New(mut guard) => Some(guard.passed::<u64>("ride").unwrap()),
                            _ => None,
                        },
                    )
                    .await;
                written.set(written.get() + i64::from(passed.is_some()));
                let mut connection = pool.acquire().await.unwrap();
                let count = sqlx::query_as::<DB, (i64,)>("SELECT COUNT(*) FROM rides");
                let (count,) = count.fetch_one(&mut *connection).await.unwrap();
                assert_eq!(count, written.get(), "both are there, or neither");
                round.set(round.get() + 1);
            },
        )
        .await;
    assert!(swept.points > 3, "{swept:?}");
}

async fn sweep_all(store: impl Store + Clone + 'static) {
    let points = [
        sweep_begin(store.clone()).await,
        sweep_complete(store.clone()).await,
        sweep_end(store.clone(), true).await,
        sweep_end(store.clone(), false).await,
        sweep_phase(store.clone()).await,
    ];
    assert!(points.iter().all(|points| *points > 0), "{points:?}");
    for operation in [true, false] {
        sweep()
            .run(
                async || match operation {
                    true => drop(store.reap(10).await.unwrap()),
                    false => drop(store.unfinished(Duration::ZERO, 10).await.unwrap()),
                },
                async |_| {},
            )
            .await;
    }
}

/// A whole transaction of the user's, dropped anywhere: the order and its outcome are both there
/// or neither, and nobody inherits an open transaction.
async fn sweep_transaction<DB: SqlDatabase>(
    pool: &Pool<DB>,
    store: impl Store + Clone + 'static,
    claims_inside: bool,
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64,): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let idempotency = releasing(store);
    let mut connection = pool.acquire().await.unwrap();
    let create = sqlx::query::<DB>("CREATE TABLE orders (id BIGINT)");
    create.execute(&mut *connection).await.unwrap();
    drop(connection);
    let round = std::cell::Cell::new(0_u32);
    let placed = std::cell::Cell::new(0);
    let name = || key(&format!("{claims_inside} {}", round.get()));
    let place = async || {
        let key = name();
        let deadline = Deadline::after(Deadline::SQL);
        let order = || sqlx::query::<DB>("INSERT INTO orders VALUES (7)");
        if claims_inside {
            let mut transaction = Guarded::begin(pool, deadline).await.unwrap();
            let begun = idempotency.begin_in(&mut *transaction, &key, &ASKED).await;
            let guard = new(begun.unwrap());
            order().execute(&mut *transaction).await.unwrap();
            let done = guard.complete_in(&mut *transaction, "done").await.unwrap();
            transaction.commit().await.unwrap();
            done.fire();
        } else {
            let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
            let mut transaction = Guarded::begin(pool, deadline).await.unwrap();
            order().execute(&mut *transaction).await.unwrap();
            let done = guard.complete_in(&mut *transaction, "done").await.unwrap();
            transaction.commit().await.unwrap();
            done.fire();
        }
    };
    let swept = sweep()
        .run(place, async |_| {
            let recorded = eventually(
                "it is done or free",
                10 * SECOND,
                async || match idempotency.begin(&name(), &ASKED).await.ok()? {
                    Begin::New(guard) => guard.release().await.ok().map(|()| false),
                    Begin::Replay(_) => Some(true),
                    _ => None,
                },
            )
            .await;
            placed.set(placed.get() + i64::from(recorded));
            let mut connection = pool.acquire().await.unwrap();
            let count = sqlx::query_as::<DB, (i64,)>("SELECT COUNT(*) FROM orders");
            let (count,) = count.fetch_one(&mut *connection).await.unwrap();
            assert_eq!(count, placed.get(), "both are there, or neither");
            round.set(round.get() + 1);
        })
        .await;
    assert!(swept.points > 3, "{swept:?}");
    let mut connection = pool.acquire().await.unwrap();
    let drop_table = sqlx::query::<DB>("DROP TABLE orders");
    drop_table.execute(&mut *connection).await.unwrap();
}

/// A message taken in a transaction that is dropped anywhere is taken once, or not.
async fn sweep_consumer<DB: SqlDatabase>(pool: &Pool<DB>, store: impl Store + 'static) {
    let consumer = Idempotency::new(store).consumer("sweep");
    let message = Key::new("message").unwrap();
    sweep()
        .run(
            async || {
                let deadline = Deadline::after(Deadline::SQL);
                let mut transaction = Guarded::begin(pool, deadline).await.unwrap();
                let first = consumer
                    .first_in(&mut *transaction, &message)
                    .await
                    .unwrap();
                assert!(first, "it was never committed");
                transaction.rollback().await.unwrap();
            },
            async |_| {},
        )
        .await;
}

#[tokio::test]
async fn on_postgres_nothing_is_lost_with_a_dropped_future() {
    let _tally = buttress_testkit::tally::suite("X1 ID8");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    sweep_all(store.clone()).await;
    sweep_transaction(&pool, store.clone(), true).await;
    sweep_transaction(&pool, store.clone(), false).await;
    sweep_phase_in(&pool, store.clone()).await;
    sweep_consumer(&pool, store).await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn on_mysql_nothing_is_lost_with_a_dropped_future() {
    let _tally = buttress_testkit::tally::suite("X1 ID8");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    sweep_all(store.clone()).await;
    sweep_transaction(&pool, store.clone(), false).await;
    sweep_phase_in(&pool, store.clone()).await;
    sweep_consumer(&pool, store).await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_nothing_is_lost_with_a_dropped_future() {
    let _tally = buttress_testkit::tally::suite("X1 ID8");
    let on = OnSqlite::start().await;
    sweep_all(on.store.clone()).await;
    sweep_transaction(on.writer.pool(), on.store.clone(), true).await;
    sweep_transaction(on.writer.pool(), on.store.clone(), false).await;
    sweep_phase_in(on.writer.pool(), on.store.clone()).await;
    sweep_consumer(on.writer.pool(), on.store.clone()).await;
    clean_pool::probe(on.writer.pool()).await.unwrap();
}

#[tokio::test]
async fn on_redis_nothing_is_lost_with_a_dropped_future() {
    let _tally = buttress_testkit::tally::suite("X1 ID8");
    let Some(prefix) = fresh_prefix() else { return };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    sweep_all(on_redis(&url, prefix.as_str()).await).await;
}
