//! What PostgreSQL says.

use std::time::Duration;

use buttress_store::{Deadline, Phase, StoreError};
use buttress_testkit::{
    postgres::{Server, fresh_database},
    proxy::{Cut, Proxy},
};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgPoolOptions};

use super::{Table, disturb};

const SCHEMA: &str = "
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (
        id int PRIMARY KEY, parent int REFERENCES parent, name varchar(3) NOT NULL DEFAULT '',
        late int UNIQUE DEFERRABLE INITIALLY DEFERRED, CHECK (id < 1000)
    );
    INSERT INTO parent VALUES (1), (2);
";

/// A statement that must fail, in the words of SQL.
const REFUSED: &[(&str, &str, &str)] = &[
    ("a key that is taken", "", "INSERT INTO parent VALUES (1)"),
    (
        "a parent that is absent",
        "",
        "INSERT INTO child VALUES (1, 9)",
    ),
    (
        "NULL where there may be none",
        "",
        "INSERT INTO child VALUES (1, 1, NULL)",
    ),
    ("a check", "", "INSERT INTO child VALUES (1000)"),
    (
        "a text too long",
        "",
        "INSERT INTO child VALUES (1, 1, 'long')",
    ),
    (
        "a number out of range",
        "",
        "INSERT INTO parent VALUES (3000000000)",
    ),
    ("a division by zero", "", "SELECT 1 / 0"),
    ("a table that is absent", "", "SELECT * FROM nowhere"),
    ("a syntax error", "", "SELEC 1"),
    (
        "a right that is missing",
        "SET ROLE weak",
        "DELETE FROM parent",
    ),
    (
        "a transaction that may not write",
        "SET default_transaction_read_only = on",
        "DELETE FROM parent",
    ),
    (
        "the statement's time limit",
        "SET statement_timeout = 20",
        "SELECT pg_sleep(60)",
    ),
];

#[tokio::test]
async fn every_row_of_the_table_is_said_by_postgres() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, every_row()).await.unwrap();
}

async fn every_row() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let mut table = Table::of("PostgreSQL");
    let url = database.url();
    let (server, name) = url.rsplit_once('/').unwrap();
    let mut one = PgConnection::connect(url).await.unwrap();
    let mut two = PgConnection::connect(url).await.unwrap();
    one.execute(SCHEMA).await.unwrap();
    // Roles are the whole server's: made for this database, and gone with this test.
    let role: &'static str = format!("weak_{name}").leak();
    let make: &'static str = format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0").leak();
    one.execute(make).await.unwrap();

    // Before there is a connection.
    let nobody = PgConnection::connect("postgres://a@127.0.0.1:1/b").await;
    table.saw("nobody listens", Phase::Connect, nobody);
    let absent = PgConnection::connect(&format!("{server}/absent")).await;
    table.saw("a database that is absent", Phase::Connect, absent);
    let stranger = url.replace("postgres@", "stranger@");
    let stranger = PgConnection::connect(&stranger).await;
    table.saw("a login that is absent", Phase::Connect, stranger);
    let full = PgConnection::connect(&url.replace("postgres@", &format!("{role}@"))).await;
    table.saw("too many connections", Phase::Connect, full);
    let small = PgPoolOptions::new().max_connections(1);
    let small = small
        .acquire_timeout(Duration::from_millis(20))
        .connect(url)
        .await
        .unwrap();
    let held = small.acquire().await.unwrap();
    table.saw(
        "a pool without a free connection",
        Phase::Connect,
        small.acquire().await,
    );
    drop(held);
    small.close().await;
    table.saw(
        "a pool that was closed",
        Phase::Connect,
        small.acquire().await,
    );

    // Refused statements.
    for (how, before, statement) in REFUSED {
        let before: &'static str = before.replace("weak", role).leak();
        one.execute(before).await.unwrap();
        let said = one.execute(*statement).await;
        table.saw(how, Phase::Statement, said);
        one.execute("RESET ROLE; RESET ALL").await.unwrap();
    }
    let nul = sqlx::query("SELECT $1::text")
        .bind("\0")
        .execute(&mut one)
        .await;
    table.saw("a NUL in a text", Phase::Statement, nul);
    let none = sqlx::query("SELECT 1 WHERE false")
        .fetch_one(&mut one)
        .await;
    table.saw("no row", Phase::Read, none);
    let read = sqlx::query_scalar::<_, i64>("SELECT 'x'").fetch_one(&mut one);
    table.saw("an answer that cannot be read", Phase::Read, read.await);
    let done = sqlx::query_scalar::<_, bool>("INSERT INTO parent VALUES (3) RETURNING id");
    let done = done.fetch_one(&mut one).await;
    table.saw(
        "the same, of a statement that was done",
        Phase::Statement,
        done,
    );

    // Transactions that meet.
    one.execute("BEGIN; SELECT 1/0").await.unwrap_err();
    table.saw(
        "after an error in the transaction",
        Phase::InTransaction,
        one.execute("SELECT 1").await,
    );
    one.execute("ROLLBACK").await.unwrap();
    one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM parent")
        .await
        .unwrap();
    two.execute("UPDATE parent SET id = 20 WHERE id = 2")
        .await
        .unwrap();
    let update = one.execute("UPDATE parent SET id = 21 WHERE id = 2").await;
    table.saw("another wrote the row first", Phase::InTransaction, update);
    one.execute("ROLLBACK").await.unwrap();
    for connection in [&mut one, &mut two] {
        connection
            .execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            .await
            .unwrap();
        connection
            .execute("SELECT sum(id) FROM parent")
            .await
            .unwrap();
    }
    one.execute("INSERT INTO parent VALUES (101)")
        .await
        .unwrap();
    two.execute("INSERT INTO parent VALUES (102)")
        .await
        .unwrap();
    one.execute("COMMIT").await.unwrap();
    table.saw(
        "not serializable, found by the commit",
        Phase::Commit,
        two.execute("COMMIT").await,
    );
    one.execute("BEGIN; INSERT INTO child VALUES (5, 1, '', 7), (6, 1, '', 7)")
        .await
        .unwrap();
    table.saw(
        "a deferred key, found by the commit",
        Phase::Commit,
        one.execute("COMMIT").await,
    );
    for connection in [&mut one, &mut two] {
        connection
            .execute("SET deadlock_timeout = 10; SET lock_timeout = 0; BEGIN")
            .await
            .unwrap();
    }
    one.execute("UPDATE parent SET id = id WHERE id = 1")
        .await
        .unwrap();
    two.execute("UPDATE parent SET id = id WHERE id = 20")
        .await
        .unwrap();
    let (first, second) = tokio::join!(
        one.execute("UPDATE parent SET id = id WHERE id = 20"),
        two.execute("UPDATE parent SET id = id WHERE id = 1"),
    );
    table.saw("a deadlock", Phase::InTransaction, first.and(second));
    one.execute("ROLLBACK").await.unwrap();
    two.execute("ROLLBACK; SET lock_timeout = 20")
        .await
        .unwrap();
    one.execute("BEGIN; UPDATE parent SET id = id WHERE id = 1")
        .await
        .unwrap();
    let wait = two.execute("UPDATE parent SET id = id WHERE id = 1").await;
    table.saw("a lock that is not to be had", Phase::Statement, wait);
    one.execute("ROLLBACK").await.unwrap();

    // Connections that end.
    for (how, phase) in [
        (
            "the server ends the connection, in a transaction",
            Phase::InTransaction,
        ),
        (
            "the server ends the connection, by itself",
            Phase::Statement,
        ),
        (
            "the server ends the connection, at the commit",
            Phase::Commit,
        ),
    ] {
        let mut third = PgConnection::connect(url).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut third)
            .await
            .unwrap();
        let end = sqlx::query("SELECT pg_terminate_backend($1, 5000)").bind(pid);
        end.execute(&mut one).await.unwrap();
        table.saw(how, phase, third.execute("SELECT 1").await);
    }
    let mut third = PgConnection::connect(url).await.unwrap();
    let limit = "SET idle_in_transaction_session_timeout = 20; BEGIN";
    third.execute(limit).await.unwrap();
    let gone = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    while one.fetch_optional(gone).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    table.saw(
        "a transaction that idled too long",
        Phase::InTransaction,
        third.execute("SELECT 1").await,
    );
    let (proxy, through) = Proxy::before(url).await.unwrap();
    for (how, phase, cut) in [
        (
            "cut before it was heard, in a transaction",
            Phase::InTransaction,
            Some(Cut::Before),
        ),
        (
            "cut before it was heard, by itself",
            Phase::Statement,
            Some(Cut::Before),
        ),
        (
            "cut after it was heard, by itself",
            Phase::Statement,
            Some(Cut::Answer),
        ),
        (
            "cut before it was heard, at the commit",
            Phase::Commit,
            Some(Cut::Before),
        ),
        (
            "cut after it was heard, at the commit",
            Phase::Commit,
            Some(Cut::Answer),
        ),
        ("a black hole, in a transaction", Phase::InTransaction, None),
        ("a black hole, by itself", Phase::Statement, None),
        ("a black hole, at the commit", Phase::Commit, None),
    ] {
        proxy.heal().await.unwrap();
        let mut third = PgConnection::connect(&through).await.unwrap();
        disturb(&proxy, "SELECT 1", cut);
        let deadline = Deadline::after(Duration::from_millis(500));
        let said: Result<_, StoreError> = deadline.run(phase, third.execute("SELECT 1")).await;
        table.saw(how, phase, said);
    }
    let drop: &'static str = format!("DROP ROLE {role}").leak();
    one.execute(drop).await.unwrap();
    stopping(&mut table).await;
    table.compare();
    database.close().await.unwrap();
}

/// A server that is asked to stop waits for the session that is open, and takes no other.
async fn stopping(table: &mut Table) {
    let server = Server::start().unwrap();
    let held = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    let smart = std::process::Command::new("kill")
        .args(["-TERM", &server.pid().to_string()])
        .status();
    assert!(smart.unwrap().success());
    let refused = loop {
        match PgConnection::connect(&server.url("postgres")).await {
            Ok(early) => early.close().await.unwrap(),
            Err(error) => break error,
        }
    };
    table.saw::<(), _>("a server that is stopping", Phase::Connect, Err(refused));
    drop(held);
}
