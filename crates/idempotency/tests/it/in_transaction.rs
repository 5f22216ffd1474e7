//! In the user's own transaction: one commit, and nobody waits for it.

use std::time::Duration;

use buttress_idempotency::{
    Begin, CompleteError, Idempotency, IdempotencyError, Key, store::MemoryStore,
};
use buttress_store::{Deadline, SqlDatabase, StoreErrorKind};
use buttress_testkit::eventually;
use sqlx::{Connection, Pool};
use tokio::time::{Instant, timeout};

use crate::stand::{ASKED, OTHER, OnMySql, OnPostgres, OnSqlite, SECOND, key, new, replayed};

const ORDERS: &str = "CREATE TABLE orders (id BIGINT)";
const PLACE: &str = "INSERT INTO orders VALUES (7)";

async fn placed<DB: SqlDatabase>(pool: &Pool<DB>) -> i64
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64,): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let mut connection = pool.acquire().await.unwrap();
    let count = sqlx::query_as::<DB, (i64,)>("SELECT COUNT(*) FROM orders");
    count.fetch_one(&mut *connection).await.unwrap().0
}

#[tokio::test]
async fn on_postgres_a_duplicate_is_told_at_once_while_the_first_is_in_its_transaction() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    sqlx::query(ORDERS).execute(&on.pool).await.unwrap();
    let idempotency = Idempotency::new(on.store.clone());
    let key = key("one");
    let mut first = on.pool.begin().await.unwrap();
    let guard = new(idempotency
        .begin_in(&mut *first, &key, &ASKED)
        .await
        .unwrap());
    sqlx::query(PLACE).execute(&mut *first).await.unwrap();
    // In a transaction of its own, and out of one.
    let mut second = on.pool.begin().await.unwrap();
    let begun = timeout(SECOND, idempotency.begin_in(&mut *second, &key, &ASKED)).await;
    assert!(matches!(begun.unwrap().unwrap(), Begin::InFlight { .. }));
    let begun = timeout(SECOND, idempotency.begin(&key, &ASKED)).await;
    assert!(matches!(begun.unwrap().unwrap(), Begin::InFlight { .. }));
    guard
        .complete_in(&mut *first, "order 7")
        .await
        .unwrap()
        .fire();
    let begun = idempotency
        .begin_in(&mut *second, &key, &ASKED)
        .await
        .unwrap();
    assert!(matches!(begun, Begin::InFlight { .. }), "not yet committed");
    first.commit().await.unwrap();
    let begun = idempotency
        .begin_in(&mut *second, &key, &ASKED)
        .await
        .unwrap();
    assert!(matches!(begun, Begin::Replay(outcome) if outcome == "order 7"));
    let begun = idempotency
        .begin_in(&mut *second, &key, &OTHER)
        .await
        .unwrap();
    assert!(matches!(begun, Begin::Mismatch));
    second.rollback().await.unwrap();
    assert_eq!(placed(&on.pool).await, 1);
    on.close().await;
}

#[tokio::test]
async fn on_postgres_a_transaction_that_is_rolled_back_leaves_its_key_free() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let idempotency = Idempotency::new(on.store.clone());
    for complete in [false, true] {
        let mut transaction = on.pool.begin().await.unwrap();
        let begun = idempotency
            .begin_in(&mut *transaction, &key("one"), &ASKED)
            .await;
        let guard = new(begun.unwrap());
        if complete {
            drop(guard.complete_in(&mut *transaction, "never").await.unwrap());
        }
        transaction.rollback().await.unwrap();
    }
    let guard = new(idempotency.begin(&key("one"), &OTHER).await.unwrap());
    assert!(!guard.resumed(), "nothing is known of it");
    on.close().await;
}

#[tokio::test]
async fn on_postgres_many_at_once_have_one_effect() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    sqlx::query(ORDERS).execute(&on.pool).await.unwrap();
    let idempotency = Idempotency::new(on.store.clone());
    let one = || async {
        loop {
            let mut transaction = on.pool.begin().await.unwrap();
            let begun = idempotency
                .begin_in(&mut *transaction, &key("one"), &ASKED)
                .await;
            match begun.unwrap() {
                Begin::New(guard) => {
                    sqlx::query(PLACE).execute(&mut *transaction).await.unwrap();
                    let done = guard.complete_in(&mut *transaction, "7").await.unwrap();
                    transaction.commit().await.unwrap();
                    done.fire();
                    return;
                }
                Begin::Replay(outcome) => return assert_eq!(outcome, "7"),
                _ => transaction.rollback().await.unwrap(),
            }
        }
    };
    futures_util::future::join_all((0..8).map(|_| one())).await;
    assert_eq!(placed(&on.pool).await, 1);
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_duplicate_waits_its_turn_to_write_and_then_sees_the_first() {
    let on = OnSqlite::start().await;
    sqlx::query(ORDERS).execute(on.writer.pool()).await.unwrap();
    let idempotency = Idempotency::new(on.store.clone());
    let key = key("one");
    let deadline = Deadline::after(Deadline::SQL);
    let mut first = on.writer.begin(deadline).await.unwrap();
    let guard = new(idempotency
        .begin_in(&mut *first, &key, &ASKED)
        .await
        .unwrap());
    sqlx::query(PLACE).execute(&mut *first).await.unwrap();
    let second = async {
        let mut second = on.writer.begin(deadline).await.unwrap();
        let begun = idempotency
            .begin_in(&mut *second, &key, &ASKED)
            .await
            .unwrap();
        second.rollback().await.unwrap();
        begun
    };
    let first = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        guard
            .complete_in(&mut *first, "order 7")
            .await
            .unwrap()
            .fire();
        first.commit().await.unwrap();
    };
    let (begun, ()) = tokio::join!(second, first);
    assert!(matches!(begun, Begin::Replay(outcome) if outcome == "order 7"));
    assert_eq!(placed(on.writer.pool()).await, 1);
}

/// Claim, transaction, completion in it: on every database. `begin` gives a transaction.
async fn completes_in_a_transaction<DB: SqlDatabase>(idempotency: &Idempotency, pool: &Pool<DB>)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64,): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    sqlx::query::<DB>(ORDERS)
        .execute(&mut *pool.acquire().await.unwrap())
        .await
        .unwrap();
    let key = key("one");
    // Rolled back: the key is free again as soon as that is known.
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    let mut connection = pool.acquire().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query::<DB>(PLACE)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let unfired = guard.complete_in(&mut *transaction, "never").await.unwrap();
    transaction.rollback().await.unwrap();
    drop(connection);
    drop(unfired);
    let guard = eventually(
        "the key is given back",
        10 * SECOND,
        async || match idempotency.begin(&key, &ASKED).await.unwrap() {
            Begin::New(guard) => Some(guard),
            _ => None,
        },
    )
    .await;
    // Committed, and what it returned dropped before: nothing is taken back.
    let mut connection = pool.acquire().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query::<DB>(PLACE)
        .execute(&mut *transaction)
        .await
        .unwrap();
    drop(
        guard
            .complete_in(&mut *transaction, "order 7")
            .await
            .unwrap(),
    );
    tokio::time::sleep(Duration::from_millis(20)).await;
    transaction.commit().await.unwrap();
    drop(connection);
    idempotency.drain(5 * SECOND).await;
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert_eq!(replayed(&again), b"order 7");
    assert_eq!(placed(pool).await, 1);
}

#[tokio::test]
async fn on_postgres_a_claim_is_completed_in_a_later_transaction() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    completes_in_a_transaction(&Idempotency::new(on.store.clone()), &on.pool).await;
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_claim_is_completed_in_a_later_transaction() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let idempotency = Idempotency::new(on.store.clone());
    completes_in_a_transaction(&idempotency, &on.pool).await;
    let mut connection = on.pool.acquire().await.unwrap();
    let begun = idempotency
        .begin_in(&mut *connection, &key("two"), &ASKED)
        .await;
    assert!(matches!(begun, Err(IdempotencyError::NoTransactions)));
    drop(connection);
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_duplicate_is_told_at_once_while_the_first_is_in_its_transaction() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    sqlx::query(ORDERS).execute(&on.pool).await.unwrap();
    let idempotency = Idempotency::new(on.store.clone());
    let guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let mut transaction = on.pool.begin().await.unwrap();
    sqlx::query(PLACE).execute(&mut *transaction).await.unwrap();
    let begun = timeout(SECOND, idempotency.begin(&key("one"), &ASKED)).await;
    assert!(matches!(begun.unwrap().unwrap(), Begin::InFlight { .. }));
    guard
        .complete_in(&mut *transaction, "7")
        .await
        .unwrap()
        .fire();
    transaction.commit().await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_claim_is_completed_in_a_later_transaction() {
    let on = OnSqlite::start().await;
    let idempotency = Idempotency::new(on.store.clone());
    completes_in_a_transaction(&idempotency, on.writer.pool()).await;
}

#[tokio::test]
async fn a_zombie_cannot_commit_what_another_has_taken_over() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    sqlx::query(ORDERS).execute(&on.pool).await.unwrap();
    let lease = buttress_store::LeaseTerms::new(Duration::from_millis(100)).unwrap();
    let policy = buttress_idempotency::Policy::builder().lease(lease.with_ceiling(1).unwrap());
    let idempotency = Idempotency::builder(on.store.clone())
        .policy(policy.build().unwrap())
        .build();
    let zombie = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let mut late = on.pool.begin().await.unwrap();
    sqlx::query(PLACE).execute(&mut *late).await.unwrap();
    let guard = eventually("its lease is over", 10 * SECOND, async || match idempotency
        .begin(&key("one"), &ASKED)
        .await
        .unwrap()
    {
        Begin::New(guard) => Some(guard),
        _ => None,
    })
    .await;
    assert!(guard.resumed());
    let refused = zombie.complete_in(&mut *late, "late").await;
    assert!(matches!(refused, Err(CompleteError::Lost(_))));
    late.rollback().await.unwrap();
    guard.complete("the second's").await.unwrap();
    assert_eq!(placed(&on.pool).await, 0);
    on.close().await;
}

/// A message that is delivered again, to two consumers, and in two transactions at once.
async fn takes_each_message_once<DB: SqlDatabase>(idempotency: &Idempotency, pool: &Pool<DB>)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64,): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    sqlx::query::<DB>(ORDERS)
        .execute(&mut *pool.acquire().await.unwrap())
        .await
        .unwrap();
    let message = Key::new("message 1").unwrap();
    let consumers = [
        idempotency.consumer("billing"),
        idempotency.consumer("shipping"),
    ];
    for commits in [false, true, true] {
        for consumer in &consumers {
            let mut connection = pool.acquire().await.unwrap();
            let mut transaction = connection.begin().await.unwrap();
            if consumer
                .first_in(&mut *transaction, &message)
                .await
                .unwrap()
            {
                sqlx::query::<DB>(PLACE)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
            match commits {
                true => transaction.commit().await.unwrap(),
                false => transaction.rollback().await.unwrap(),
            }
        }
    }
    assert_eq!(placed(pool).await, 2, "once for each consumer");
}

#[tokio::test]
async fn on_postgres_a_message_is_taken_once_by_each_consumer() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let idempotency = Idempotency::new(on.store.clone());
    takes_each_message_once(&idempotency, &on.pool).await;
    // Two at once: the second waits for the first's commit, and is then told.
    let consumer = idempotency.consumer("billing");
    let message = Key::new("message 2").unwrap();
    let mut first = on.pool.begin().await.unwrap();
    assert!(consumer.first_in(&mut *first, &message).await.unwrap());
    let mut second = on.pool.begin().await.unwrap();
    let waits = consumer.first_in(&mut *second, &message);
    let commits = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        first.commit().await.unwrap();
    };
    let (taken, ()) = tokio::join!(waits, commits);
    assert!(!taken.unwrap());
    second.rollback().await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_message_is_taken_once_by_each_consumer() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    takes_each_message_once(&Idempotency::new(on.store.clone()), &on.pool).await;
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_message_is_taken_once_by_each_consumer() {
    let on = OnSqlite::start().await;
    takes_each_message_once(&Idempotency::new(on.store.clone()), on.writer.pool()).await;
}

#[tokio::test]
async fn a_connection_of_another_database_is_a_typed_error() {
    let on = OnSqlite::start().await;
    let mut connection = on.writer.pool().acquire().await.unwrap();
    let memory = Idempotency::new(MemoryStore::new());
    let begun = memory.begin_in(&mut *connection, &key("one"), &ASKED).await;
    assert!(matches!(begun, Err(IdempotencyError::NoTransactions)));
    let guard = new(memory.begin(&key("one"), &ASKED).await.unwrap());
    let error = guard
        .complete_in(&mut *connection, "done")
        .await
        .unwrap_err();
    assert!(
        matches!(error, CompleteError::Store(error) if error.kind() == StoreErrorKind::Misused)
    );
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let postgres = Idempotency::new(buttress_idempotency::store::PostgresStore::new(pool).unwrap());
    let start = Instant::now();
    let begun = postgres
        .begin_in(&mut *connection, &key("one"), &ASKED)
        .await;
    assert!(
        matches!(begun, Err(IdempotencyError::Store(error)) if error.kind() == StoreErrorKind::Misused)
    );
    assert!(start.elapsed() < SECOND, "nothing was asked");
}
