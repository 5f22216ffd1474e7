//! Connections that are cut or swallowed, and what is known afterwards.

use std::time::Duration;

use buttress_core::{Class, Clock};
use buttress_store::{Deadline, Gate, Guarded, Loan, Phase, StoreError, StoreErrorKind};
use buttress_testkit::postgres::fresh_database;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::proxy::{Mode, Proxy};

const CUTS: u32 = 200;

async fn insert(
    pool: &PgPool,
    id: i64,
    deadline: Deadline,
) -> Result<Guarded<sqlx::Postgres>, StoreError> {
    let mut transaction = Guarded::begin(pool, deadline).await?;
    let insert = sqlx::query("INSERT INTO orders VALUES ($1)").bind(id);
    let insert = insert.execute(&mut *transaction);
    deadline.run(Phase::InTransaction, insert).await?;
    Ok(transaction)
}

#[tokio::test]
async fn of_two_hundred_cut_commits_each_is_unknown_and_half_were_done() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await;
    let pool = PgPool::connect(&through).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .unwrap();
    for id in 0..CUTS {
        let deadline = Deadline::after(Deadline::SQL);
        let transaction = insert(&pool, id.into(), deadline).await.unwrap();
        proxy.set(if id % 2 == 0 {
            Mode::CutBefore
        } else {
            Mode::CutAfter
        });
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(error.class(), Class::Unknown, "{error}");
        assert_eq!(error.kind(), StoreErrorKind::Lost, "{error}");
        proxy.set(Mode::Pass);
    }
    let done = sqlx::query_scalar("SELECT count(*) FROM orders");
    let done: i64 = done.fetch_one(&pool).await.unwrap();
    println!("{CUTS} cut commits on PostgreSQL: all unknown, {done} had been done");
    assert_eq!(done, i64::from(CUTS / 2));
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_statement_cut_within_a_transaction_was_not_done() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await;
    let pool = PgPool::connect(&through).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .unwrap();
    for mode in [Mode::CutBefore, Mode::CutAfter] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut transaction = insert(&pool, 1, deadline).await.unwrap();
        proxy.set(mode);
        let second = sqlx::query("INSERT INTO orders VALUES (2)").execute(&mut *transaction);
        let result = deadline.run(Phase::InTransaction, second).await;
        let error = transaction.finish(result).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (StoreErrorKind::Lost, Class::NotDone)
        );
        proxy.set(Mode::Pass);
        let done = sqlx::query_scalar("SELECT count(*) FROM orders");
        assert_eq!(done.fetch_one(&pool).await.ok(), Some(0_i64));
    }
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_statement_cut_by_itself_is_unknown() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await;
    let pool = PgPool::connect(&through).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .unwrap();
    for (mode, done) in [(Mode::CutBefore, 0_i64), (Mode::CutAfter, 1)] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut loan = Loan::acquire(&pool, deadline).await.unwrap();
        proxy.set(mode);
        let one = sqlx::raw_sql("INSERT INTO orders VALUES (3)").execute(&mut *loan);
        let error = deadline.run(Phase::Statement, one).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (StoreErrorKind::Lost, Class::Unknown)
        );
        drop(loan);
        proxy.set(Mode::Pass);
        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
        assert_eq!(count.fetch_one(&pool).await.ok(), Some(done));
    }
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_query_into_a_black_hole_ends_by_its_deadline_and_the_pool_is_well_at_once() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(&through)
        .await
        .unwrap();
    let clock = Clock::tokio();
    let pid = "SELECT pg_backend_pid()";
    let before: i32 = sqlx::query_scalar(pid).fetch_one(&pool).await.unwrap();
    let allowed = Duration::from_millis(200);
    let gate = Gate::sql().with_deadline(allowed).unwrap();
    let ask = |deadline: Deadline| {
        let pool = pool.clone();
        async move {
            let mut loan = Loan::acquire(&pool, deadline).await?;
            let ask = sqlx::query_scalar::<_, i32>(pid).fetch_one(&mut *loan);
            let answer = deadline.run(Phase::Read, ask).await?;
            loan.give_back();
            Ok::<i32, StoreError>(answer)
        }
    };
    for round in 0..5 {
        // Into the hole once the connection is at hand, and once before.
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut loan = Loan::acquire(&pool, deadline).await.unwrap();
        proxy.set(Mode::Hole);
        let began = clock.now();
        let short = Deadline::after(allowed);
        let lost = sqlx::query_scalar::<_, i32>(pid).fetch_one(&mut *loan);
        let error = short.run(Phase::Read, lost).await.unwrap_err();
        drop(loan);
        let took = clock.now().saturating_since(began);
        assert_eq!(error.kind(), StoreErrorKind::Deadline);
        assert!(took < allowed + Duration::from_millis(250), "{took:?}");

        let began = clock.now();
        let error = ask(Deadline::after(allowed)).await.unwrap_err();
        let took = clock.now().saturating_since(began);
        assert_eq!(
            (error.kind(), error.phase()),
            (StoreErrorKind::Deadline, Phase::Connect)
        );
        assert!(took < allowed + Duration::from_millis(250), "{took:?}");

        proxy.set(Mode::Pass);
        let healed = clock.now();
        let after = ask(Deadline::after(Duration::from_secs(5))).await.unwrap();
        let took = clock.now().saturating_since(healed);
        println!("round {round}: well again {took:?} after healing");
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_ne!(after, before, "its connection is not used again");
    }
    // Through the gate: one request pays the deadline, the next ones are told at once.
    proxy.set(Mode::Hole);
    let error = gate.run(ask).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Deadline);
    let began = clock.now();
    for _ in 0..100 {
        let error = gate.run(ask).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::LeftAlone);
        assert!(error.retry_after().is_some());
    }
    assert!(clock.now().saturating_since(began) < allowed);
    proxy.set(Mode::Pass);
    let wait = gate.run(ask).await.unwrap_err().retry_after().unwrap();
    tokio::time::sleep(wait).await;
    gate.run(ask).await.unwrap();
    pool.close().await;
    database.close().await.unwrap();
}
