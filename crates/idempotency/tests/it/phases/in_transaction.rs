//! Phases in the user's own transaction, on every database.

use std::time::Duration;

use buttress_idempotency::{
    Begin, CompleteError, Guard, Idempotency, PhaseError, Policy, store::Store,
};
use buttress_store::{Deadline, Guarded, LeaseTerms, SqlDatabase};
use buttress_testkit::eventually;
use tokio::time::timeout;

use super::planted::{Bug, Buggy};
use crate::{
    killed::phases::Rides,
    stand::{ASKED, OnMySql, OnPostgres, OnSqlite, SECOND, key, new},
};

/// Leases that nobody prolongs, so that a worker that stands still loses it.
fn brief(store: impl Store + 'static) -> Idempotency {
    let lease = LeaseTerms::new(Duration::from_millis(200)).unwrap();
    let policy = Policy::builder().lease(lease.with_ceiling(1).unwrap());
    let policy = policy.build().unwrap();
    Idempotency::builder(store).policy(policy).build()
}

async fn takes_over(idempotency: &Idempotency) -> Guard {
    eventually("the lease is over", 20 * SECOND, async || match idempotency
        .begin(&key("one"), &ASKED)
        .await
        .ok()?
    {
        Begin::New(guard) => Some(guard),
        _ => None,
    })
    .await
}

/// A worker comes back after another has taken over and passed the phase. How many rides then are.
async fn zombie<DB: SqlDatabase>(rides: &Rides<DB>, idempotency: &Idempotency) -> i64
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    rides.open().await;
    let mut zombie = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(zombie.passed::<u64>("ride").unwrap(), None);
    let mut owner = takes_over(idempotency).await;
    for guard in [&mut owner, &mut zombie] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut transaction = Guarded::begin(&rides.pool, deadline).await.unwrap();
        let insert = sqlx::query::<DB>("INSERT INTO rides VALUES (1, 7)");
        insert.execute(&mut *transaction).await.unwrap();
        match guard.phase_in(&mut *transaction, "ride", &7).await {
            Ok(()) => transaction.commit().await.unwrap(),
            Err(PhaseError::Lost(_)) => transaction.rollback().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    rides.count("rides", 1).await.0
}

#[tokio::test]
async fn a_zombies_phase_is_refused_and_rolled_back_on_every_database() {
    let on = OnSqlite::start().await;
    let rides = Rides::new(on.writer.pool().clone(), on.store.clone());
    assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
    if let Some(on) = OnMySql::start().await {
        let rides = Rides::new(on.pool.clone(), on.store.clone());
        assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
        drop(rides);
        on.close().await;
    }
    if let Some(on) = OnPostgres::start().await {
        let rides = Rides::new(on.pool.clone(), on.store.clone());
        assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
        drop(rides);
        on.close().await;
    }
}

#[tokio::test]
async fn a_phase_without_its_fence_is_found() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let rides = Rides::new(on.pool.clone(), on.store.clone());
    let unfenced = brief(Buggy(Bug::Unfenced, on.store.clone()));
    assert_eq!(zombie(&rides, &unfenced).await, 2, "the bug has its effect");
    drop(rides);
    on.close().await;
}

/// A transaction that is rolled back is done again; one that was committed without an answer is
/// not; and who takes over while it is open is told how it ended.
async fn in_transactions<DB: SqlDatabase>(
    pool: &sqlx::Pool<DB>,
    store: impl Store + Clone + 'static,
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let begin = async || {
        let deadline = Deadline::after(Deadline::SQL);
        Guarded::begin(pool, deadline).await.unwrap()
    };
    let idempotency = Idempotency::new(store.clone());
    let mut guard = new(idempotency.begin(&key("again"), &ASKED).await.unwrap());
    assert_eq!(guard.passed::<u64>("ride").unwrap(), None);
    for _ in 0..2 {
        let mut transaction = begin().await;
        let passed = guard.phase_in(&mut *transaction, "ride", &7).await;
        passed.unwrap();
        transaction.rollback().await.unwrap();
    }
    let mut transaction = begin().await;
    let passed = guard.phase_in(&mut *transaction, "ride", &8).await;
    passed.unwrap();
    transaction.commit().await.unwrap();
    // As if the commit had not been answered, and the caller tried again.
    let mut transaction = begin().await;
    let again = guard.phase_in(&mut *transaction, "ride", &8).await;
    assert!(matches!(again, Err(PhaseError::Lost(_))), "{again:?}");
    transaction.rollback().await.unwrap();
    guard.release().await.unwrap();
    let mut guard = new(idempotency.begin(&key("again"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(8));

    let idempotency = brief(store);
    let mut first = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let mut transaction = begin().await;
    let passed = first.phase_in(&mut *transaction, "ride", &9).await;
    passed.unwrap();
    let lost = timeout(20 * SECOND, first.lost()).await;
    assert!(lost.is_ok(), "its lease is over while it is not committed");
    let mut second = std::pin::pin!(takes_over(&idempotency));
    let early = timeout(SECOND / 5, &mut second).await;
    assert!(early.is_err(), "who takes over must know how it ends");
    transaction.commit().await.unwrap();
    let mut second = second.await;
    assert_eq!(second.passed("ride").unwrap(), Some(9));
}

#[tokio::test]
async fn on_postgres_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    in_transactions(&on.pool, on.store.clone()).await;
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    in_transactions(&on.pool, on.store.clone()).await;
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let on = OnSqlite::start().await;
    in_transactions(on.writer.pool(), on.store.clone()).await;
}

#[tokio::test]
async fn a_key_in_phases_is_not_finished_by_a_program_without_them() {
    let on = OnSqlite::start().await;
    let idempotency = Idempotency::new(on.store.clone());
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    guard.phase("ride", &7).await.unwrap();
    guard.release().await.unwrap();
    let mut transaction = on
        .writer
        .begin(Deadline::after(Deadline::SQL))
        .await
        .unwrap();
    let key = key("one");
    let begun = idempotency.begin_in(&mut *transaction, &key, &ASKED);
    let guard = new(begun.await.unwrap());
    assert!(guard.resumed());
    let refused = guard.complete_in(&mut *transaction, "done").await;
    assert!(matches!(refused, Err(CompleteError::Changed(_))));
    transaction.rollback().await.unwrap();
}
