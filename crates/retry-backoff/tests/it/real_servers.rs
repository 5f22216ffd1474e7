//! Real databases: what their errors lead to, and commits that are cut.

use std::cell::Cell;

use buttress_retry_backoff::{
    Backoff, Failure, Retry, RetryError, RetryPolicy, Stopped,
    redis::ByRedis,
    sqlx::{BySqlx, ByStore, Phase, StoreErrorKind},
};
use buttress_store::{Deadline, Guarded, StoreError};
use buttress_testkit::{
    mysql, postgres,
    proxy::{Cut, Proxy, Way},
    redis,
    tier::short_or_long,
};
use sqlx::{Connection as _, Executor as _, MySqlPool, PgPool};

fn retry(attempts: u32) -> Retry {
    let policy = RetryPolicy::builder()
        .attempts(attempts)
        .backoff(Backoff::none());
    Retry::new("database", policy.build().unwrap())
}

/// How often an operation was begun, and why it was given up.
async fn tried<T, E, C, F>(operation: F, judge: C, idempotent: bool) -> (u32, Option<Stopped>)
where
    F: AsyncFn() -> Result<T, E>,
    C: buttress_core::Classify<T, E>,
{
    buttress_testkit::tally::operation();
    let made = Cell::new(0);
    let retry = retry(3);
    let call = retry
        .call(|| {
            made.set(made.get() + 1);
            operation()
        })
        .classify(judge);
    let call = if idempotent { call.idempotent() } else { call };
    let result = call.await;
    (made.get(), result.err().map(|error| error.stopped()))
}

const MADE_AGAIN: (u32, Option<Stopped>) = (3, Some(Stopped::Attempts));
const FINAL: (u32, Option<Stopped>) = (1, Some(Stopped::Final));
const UNKNOWN: (u32, Option<Stopped>) = (1, Some(Stopped::Unknown));

/// RB2; the classes themselves, of which there are more than a hundred, are the store's tests.
#[tokio::test]
async fn rb2_what_postgres_says_is_tried_again_as_its_class_allows() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let (proxy, through) = Proxy::before(database.url()).await.unwrap();
    let pool = PgPool::connect(&through).await.unwrap();
    pool.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
        .await
        .unwrap();
    let statement = || BySqlx::new(Phase::Statement);
    let run = |sql: &'static str| {
        let pool = &pool;
        async move || pool.execute(sql).await
    };
    for (sql, expected) in [
        ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", MADE_AGAIN),
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", MADE_AGAIN),
        ("DO $$ BEGIN RAISE SQLSTATE '53300'; END $$", MADE_AGAIN),
        ("SET statement_timeout = 20; SELECT pg_sleep(9)", MADE_AGAIN),
        ("INSERT INTO orders VALUES (1), (1)", FINAL),
        ("INSERT INTO orders VALUES (NULL)", FINAL),
        ("SELECT * FROM absent", FINAL),
        ("SELEKT", FINAL),
        ("SELECT 1 / 0", FINAL),
    ] {
        assert_eq!(tried(run(sql), statement(), false).await, expected, "{sql}");
    }
    // The same cut is unknown in a statement of its own, and not done in a read.
    let cut = async |cut: Cut| {
        proxy.cut_at(Way::ToServer, "pg_sleep", cut);
        pool.execute("SELECT pg_sleep(0.001)").await
    };
    let both = async || cut(Cut::Answer).await;
    assert_eq!(tried(both, statement(), false).await, UNKNOWN);
    assert_eq!(tried(both, statement(), true).await, MADE_AGAIN);
    let read = BySqlx::new(Phase::Read);
    assert_eq!(tried(both, read, false).await, MADE_AGAIN);
    let nobody = async || sqlx::PgConnection::connect("postgres://nobody@127.0.0.1:1/x").await;
    assert_eq!(tried(nobody, statement(), false).await, MADE_AGAIN);
    pool.close().await;
    let closed = async || pool.acquire().await;
    assert_eq!(tried(closed, statement(), false).await, FINAL);
    database.close().await.unwrap();
}

#[tokio::test]
async fn rb2_what_mariadb_says_is_tried_again_as_its_class_allows() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = MySqlPool::connect(database.url()).await.unwrap();
    pool.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY)")
        .await
        .unwrap();
    for (sql, expected) in [
        ("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213", MADE_AGAIN),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205", MADE_AGAIN),
        ("INSERT INTO orders VALUES (1), (1)", FINAL),
        ("SELECT * FROM absent", FINAL),
        ("SELEKT", FINAL),
    ] {
        let run = async || pool.execute(sqlx::raw_sql(sql)).await;
        let judge = BySqlx::new(Phase::InTransaction);
        assert_eq!(tried(run, judge, false).await, expected, "{sql}");
    }
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn rb2_what_sqlite_says_is_tried_again_as_its_class_allows() {
    let _tally = buttress_testkit::tally::suite("RB2");
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let connect = || sqlx::SqliteConnection::connect("sqlite::memory:");
    let mut one = connect().await.unwrap();
    one.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL)")
        .await
        .unwrap();
    let one = tokio::sync::Mutex::new(one);
    for (sql, expected) in [
        ("INSERT INTO orders VALUES (1, NULL)", FINAL),
        ("INSERT INTO orders VALUES (1, 'a'), (1, 'a')", FINAL),
        ("SELECT * FROM absent", FINAL),
        // SQLITE_FULL: there is no room, and there may be later.
        (
            "PRAGMA max_page_count = 2; INSERT INTO orders VALUES (9, hex(zeroblob(9000)))",
            MADE_AGAIN,
        ),
    ] {
        let run = async || one.lock().await.execute(sqlx::raw_sql(sql)).await;
        let judge = BySqlx::new(Phase::Statement);
        assert_eq!(tried(run, judge, false).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn rb2_what_redis_says_is_tried_again_as_its_class_allows() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let client = ::redis::Client::open(prefix.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}list", prefix.as_str());
    let judge = || ByRedis::new(Phase::Statement);
    let run = |words: &'static [&'static str]| {
        let (connection, key) = (connection.clone(), key.clone());
        async move || {
            let mut command = ::redis::Cmd::new();
            for word in words {
                command.arg(if *word == "KEY" { &key } else { *word });
            }
            command.query_async::<()>(&mut connection.clone()).await
        }
    };
    run(&["RPUSH", "KEY", "a"])().await.unwrap();
    for (words, expected) in [
        (&["INCR", "KEY"][..], FINAL),
        (&["NONSENSE"], FINAL),
        (
            &["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
            MADE_AGAIN,
        ),
    ] {
        let tried = tried(run(words), judge(), false).await;
        assert_eq!(tried, expected, "{words:?}");
    }
    run(&["DEL", "KEY"])().await.unwrap();
    let nobody = ::redis::Client::open("redis://127.0.0.1:1").unwrap();
    let connect = async || nobody.get_multiplexed_async_connection().await;
    assert_eq!(tried(connect, judge(), false).await, MADE_AGAIN);
}

/// What one operation does: an effect, and where it has a key, the key in the same transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Nobody said that it may be repeated.
    Unmarked,
    /// It may be, for its key makes its effect one.
    Keyed,
    /// It is said to be idempotent, and is not: the planted bug.
    Lied,
}

macro_rules! commit_cut {
    ($database:ident, $pool:ty, $sqlx:ty, $run:ident, $key:literal, $effect:literal, $effects:literal, $count:literal,
        $name:ident) => {
        async fn $run(pool: &$pool, id: i64, kind: Kind) -> Result<(), StoreError> {
            let deadline = Deadline::after(Deadline::SQL);
            let mut transaction = Guarded::<$sqlx>::begin(pool, deadline).await?;
            if kind == Kind::Keyed {
                let key = sqlx::query($key).bind(id).execute(&mut *transaction);
                let claimed = deadline.run(Phase::InTransaction, key).await;
                if let Err(error) = &claimed
                    && error.kind() == StoreErrorKind::Duplicate
                {
                    // The attempt whose answer was lost had done it.
                    return Ok(());
                }
                claimed?;
            }
            let effect = sqlx::query($effect).bind(id).execute(&mut *transaction);
            deadline.run(Phase::InTransaction, effect).await?;
            transaction.commit().await
        }

        /// RB3: every commit is cut, before, while or after the server hears it.
        #[tokio::test]
        async fn $name() {
            let tally = buttress_testkit::tally::suite("RB3 X7");
            let Some(database) = $database::fresh_database().await else {
                return;
            };
            let (proxy, through) = Proxy::before(database.url()).await.unwrap();
            let pool = <$pool>::connect(&through).await.unwrap();
            for sql in ["CREATE TABLE done (id BIGINT PRIMARY KEY)", $effects] {
                pool.execute(sqlx::raw_sql(sql)).await.unwrap();
            }
            let retry = retry(5);
            let cuts = [Cut::Before, Cut::Answer, Cut::During];
            let rounds = short_or_long(100, 10_000_i64);
            let mut doubled = 0;
            for (kind, count) in [
                (Kind::Unmarked, rounds),
                (Kind::Keyed, rounds),
                (Kind::Lied, 6),
            ] {
                pool.execute("DELETE FROM effects").await.unwrap();
                pool.execute("DELETE FROM done").await.unwrap();
                for (id, cut) in (0..count).zip(cuts.into_iter().cycle()) {
                    proxy.cut_at(Way::ToServer, "COMMIT", cut);
                    let call = retry.call(|| $run(&pool, id, kind)).classify(ByStore);
                    if kind == Kind::Unmarked {
                        let error: RetryError<StoreError> = call.await.unwrap_err();
                        assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Unknown));
                        assert!(matches!(error.failure(), Failure::Failed(_)));
                    } else {
                        call.idempotent().await.unwrap();
                    }
                    let of = sqlx::query_scalar::<_, i64>($count);
                    let effects = of.bind(id).fetch_one(&pool).await.unwrap();
                    match kind {
                        Kind::Unmarked => assert!(effects <= 1, "{cut:?} {id}: {effects}"),
                        Kind::Keyed => assert_eq!(effects, 1, "{cut:?} {id}"),
                        Kind::Lied => doubled += i32::from(effects > 1),
                    }
                }
            }
            assert!(
                doubled > 0,
                "the check finds what is repeated without a key"
            );
            pool.close().await;
            database.close().await.unwrap();
            tally.operations(2 * rounds + 6);
            tally.caught(1);
        }
    };
}

commit_cut!(
    postgres,
    PgPool,
    sqlx::Postgres,
    on_postgres,
    "INSERT INTO done VALUES ($1)",
    "INSERT INTO effects (id) VALUES ($1)",
    "CREATE TABLE effects (n BIGSERIAL PRIMARY KEY, id BIGINT NOT NULL)",
    "SELECT count(*) FROM effects WHERE id = $1",
    rb3_a_cut_commit_is_repeated_only_with_a_key_on_postgres
);
commit_cut!(
    mysql,
    MySqlPool,
    sqlx::MySql,
    on_mariadb,
    "INSERT INTO done VALUES (?)",
    "INSERT INTO effects (id) VALUES (?)",
    "CREATE TABLE effects (n BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL)",
    "SELECT count(*) FROM effects WHERE id = ?",
    rb3_a_cut_commit_is_repeated_only_with_a_key_on_mariadb
);
