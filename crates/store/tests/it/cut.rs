//! Connections that are cut or swallowed, and what is known afterwards.

use std::time::Duration;

use buttress_core::{Class, Clock};
use buttress_store::{Deadline, Gate, Guarded, Loan, Phase, StoreError, StoreErrorKind};
use buttress_testkit::{
    mysql,
    postgres::{self, fresh_database},
    proxy::{Cut, Proxy, Way},
};
use sqlx::{MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions};

const CUTS: u32 = 200;
const ROUNDS: usize = 9;
/// How much later than its deadline an operation may end: the median of all rounds, and each.
const LATE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(250));

/// The same on each database: their types have no executor in common.
macro_rules! cut {
    ($database:ident, $pool:ty, $options:ty, $sqlx:ty, $insert:ident, $sql:literal, $who:literal,
        $commits:ident, $hole:ident) => {
        async fn $insert(
            pool: &$pool,
            id: i64,
            deadline: Deadline,
        ) -> Result<Guarded<$sqlx>, StoreError> {
            let mut transaction = Guarded::begin(pool, deadline).await?;
            let insert = sqlx::query($sql).bind(id).execute(&mut *transaction);
            deadline.run(Phase::InTransaction, insert).await?;
            Ok(transaction)
        }

        #[tokio::test]
        async fn $commits() {
            let _tally = buttress_testkit::tally::suite("X7");
            let Some(database) = $database::fresh_database().await else {
                return;
            };
            let (proxy, through) = Proxy::before(database.url()).await.unwrap();
            let pool = <$pool>::connect(&through).await.unwrap();
            sqlx::raw_sql("CREATE TABLE orders (id BIGINT PRIMARY KEY)")
                .execute(&pool)
                .await
                .unwrap();
            let cuts = [Cut::Before, Cut::Answer, Cut::During];
            for (id, cut) in (0..CUTS).zip(cuts.into_iter().cycle()) {
                let deadline = Deadline::after(Deadline::SQL);
                let transaction = $insert(&pool, id.into(), deadline).await.unwrap();
                proxy.cut_at(Way::ToServer, "COMMIT", cut);
                let error = transaction.commit().await.unwrap_err();
                assert_eq!(error.class(), Class::Unknown, "{cut:?}: {error}");
                assert_eq!(error.kind(), StoreErrorKind::Lost, "{cut:?}: {error}");
            }
            assert_eq!(
                proxy.struck(),
                u64::from(CUTS),
                "each was cut at its commit"
            );
            let done = sqlx::query_scalar("SELECT id FROM orders ORDER BY id");
            let done: Vec<i64> = done.fetch_all(&pool).await.unwrap();
            let of = |which: i64| done.iter().filter(|id| *id % 3 == which).count();
            let (before, answer, during) = (of(0), of(1), of(2));
            println!(
                "{CUTS} cut commits on {}: all unknown; done: {before} that were cut before, \
                 {during} during, {answer} after",
                stringify!($database)
            );
            let all = (0..CUTS).filter(|id| id % 3 == 1).count();
            assert_eq!((before, answer), (0, all));
            pool.close().await;
            database.close().await.unwrap();
        }

        #[tokio::test]
        async fn $hole() {
            let _tally = buttress_testkit::tally::suite("X6");
            let Some(database) = $database::fresh_database().await else {
                return;
            };
            let (proxy, through) = Proxy::before(database.url()).await.unwrap();
            let options = <$options>::new().max_connections(1);
            let pool = options.connect(&through).await.unwrap();
            let clock = Clock::tokio();
            let hole = || [Way::ToServer, Way::ToClient].map(|way| proxy.black_hole(way));
            let allowed = Duration::from_millis(200);
            let ask = |deadline: Deadline| {
                let pool = pool.clone();
                async move {
                    let mut loan = Loan::acquire(&pool, deadline).await?;
                    let ask = sqlx::query_scalar::<_, i64>($who).fetch_one(&mut *loan);
                    let answer = deadline.run(Phase::Read, ask).await?;
                    loan.give_back();
                    Ok::<i64, StoreError>(answer)
                }
            };
            let patient = || Deadline::after(Deadline::SQL);
            let mut before = ask(patient()).await.unwrap();
            let (mut late, mut well) = (Vec::new(), Duration::ZERO);
            for _ in 0..ROUNDS {
                // Into the hole once the connection is at hand, and once before.
                let mut loan = Loan::acquire(&pool, patient()).await.unwrap();
                hole();
                let began = clock.now();
                let short = Deadline::after(allowed);
                let lost = sqlx::query_scalar::<_, i64>($who).fetch_one(&mut *loan);
                let error = short.run(Phase::Read, lost).await.unwrap_err();
                drop(loan);
                late.push(clock.now().saturating_since(began).saturating_sub(allowed));
                assert_eq!(error.kind(), StoreErrorKind::Deadline);

                let began = clock.now();
                let error = ask(Deadline::after(allowed)).await.unwrap_err();
                late.push(clock.now().saturating_since(began).saturating_sub(allowed));
                assert_eq!(
                    (error.kind(), error.phase()),
                    (StoreErrorKind::Deadline, Phase::Connect)
                );

                proxy.heal().await.unwrap();
                let healed = clock.now();
                let after = ask(patient()).await.unwrap();
                well = well.max(clock.now().saturating_since(healed));
                assert_ne!(after, before, "its connection is not used again");
                before = after;
            }
            late.sort();
            let (median, latest) = (late[late.len() / 2], late[late.len() - 1]);
            println!(
                "{}: into a black hole {} times, {median:?} late in the median, {latest:?} at \
                 worst; well again {well:?} after healing at worst",
                stringify!($database),
                late.len()
            );
            assert!(median < LATE.0, "{late:?}");
            assert!(latest < LATE.1, "{late:?}");
            assert!(well < Duration::from_secs(1), "{well:?}");

            // Through the gate: one request pays the deadline, the next ones are told at once.
            let gate = Gate::sql().with_deadline(allowed).unwrap();
            hole();
            let error = gate.run(ask).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Deadline);
            let began = clock.now();
            for _ in 0..100 {
                let error = gate.run(ask).await.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::LeftAlone);
                assert!(error.retry_after().is_some());
            }
            assert!(clock.now().saturating_since(began) < allowed);
            proxy.heal().await.unwrap();
            let wait = gate.run(ask).await.unwrap_err().retry_after().unwrap();
            tokio::time::sleep(wait).await;
            gate.run(ask).await.unwrap();
            pool.close().await;
            database.close().await.unwrap();
        }
    };
}

cut!(
    postgres,
    PgPool,
    PgPoolOptions,
    sqlx::Postgres,
    insert_on_postgres,
    "INSERT INTO orders VALUES ($1)",
    "SELECT pg_backend_pid()::bigint",
    of_two_hundred_cut_commits_each_is_unknown_on_postgres,
    a_query_into_a_black_hole_ends_by_its_deadline_and_the_pool_is_well_at_once_on_postgres
);
cut!(
    mysql,
    MySqlPool,
    MySqlPoolOptions,
    sqlx::MySql,
    insert_on_mariadb,
    "INSERT INTO orders VALUES (?)",
    "SELECT CAST(CONNECTION_ID() AS SIGNED)",
    of_two_hundred_cut_commits_each_is_unknown_on_mariadb,
    a_query_into_a_black_hole_ends_by_its_deadline_and_the_pool_is_well_at_once_on_mariadb
);

#[tokio::test]
async fn a_statement_cut_within_a_transaction_was_not_done() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await.unwrap();
    let pool = PgPool::connect(&through).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .unwrap();
    for cut in [Cut::Before, Cut::Answer] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut transaction = insert_on_postgres(&pool, 1, deadline).await.unwrap();
        proxy.cut_at(Way::ToServer, "INSERT INTO orders VALUES (2)", cut);
        let second = sqlx::query("INSERT INTO orders VALUES (2)").execute(&mut *transaction);
        let result = deadline.run(Phase::InTransaction, second).await;
        let error = transaction.finish(result).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (StoreErrorKind::Lost, Class::NotDone)
        );
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
    let (proxy, through) = Proxy::before(database.url()).await.unwrap();
    let pool = PgPool::connect(&through).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .unwrap();
    for (cut, done) in [(Cut::Before, 0_i64), (Cut::Answer, 1)] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut loan = Loan::acquire(&pool, deadline).await.unwrap();
        proxy.cut_at(Way::ToServer, "INSERT", cut);
        let one = sqlx::raw_sql("INSERT INTO orders VALUES (3)").execute(&mut *loan);
        let error = deadline.run(Phase::Statement, one).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (StoreErrorKind::Lost, Class::Unknown)
        );
        drop(loan);
        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
        assert_eq!(count.fetch_one(&pool).await.ok(), Some(done));
    }
    pool.close().await;
    database.close().await.unwrap();
}
