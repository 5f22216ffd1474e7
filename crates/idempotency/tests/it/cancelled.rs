//! Every future dropped at every point at which it waits.

use std::time::Duration;

use buttress_idempotency::{Abandoned, Begin, Idempotency, Policy, store::Store};
use buttress_testkit::{cancel_sweep, clean_pool, eventually, proxy::Proxy, redis::fresh_prefix};

use crate::stand::{ASKED, OnMySql, OnPostgres, OnSqlite, SECOND, key, new, on_redis};

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
    let swept = cancel_sweep(
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
    let swept = cancel_sweep(
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
    let swept = cancel_sweep(
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

async fn sweep_all(store: impl Store + Clone + 'static) {
    let points = [
        sweep_begin(store.clone()).await,
        sweep_complete(store.clone()).await,
        sweep_end(store.clone(), true).await,
        sweep_end(store.clone(), false).await,
    ];
    assert!(points.iter().all(|points| *points > 0), "{points:?}");
    for operation in [true, false] {
        cancel_sweep(
            async || match operation {
                true => drop(store.reap(10).await.unwrap()),
                false => drop(store.unfinished(Duration::ZERO, 10).await.unwrap()),
            },
            async |_| {},
        )
        .await;
    }
}

#[tokio::test]
async fn on_postgres_nothing_is_lost_with_a_dropped_future() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sweep_all(buttress_idempotency::store::PostgresStore::new(
        pool.clone(),
    ))
    .await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn on_mysql_nothing_is_lost_with_a_dropped_future() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
    sweep_all(buttress_idempotency::store::MySqlStore::new(pool.clone())).await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_nothing_is_lost_with_a_dropped_future() {
    let on = OnSqlite::start().await;
    sweep_all(on.store.clone()).await;
    clean_pool::probe(on.writer.pool()).await.unwrap();
}

#[tokio::test]
async fn on_redis_nothing_is_lost_with_a_dropped_future() {
    let Some(prefix) = fresh_prefix() else { return };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    sweep_all(on_redis(&url, prefix.as_str()).await).await;
}
