//! What MariaDB says, and what MySQL 8 says with the same numbers.

use std::time::Duration;

use buttress_store::{Deadline, Phase, StoreError};
use buttress_testkit::{
    mysql::{Server, StartError},
    proxy::{Cut, Proxy},
};
use sqlx::{Connection as _, Executor as _, MySqlConnection, mysql::MySqlPoolOptions};

use super::{Table, disturb};

const SCHEMA: &str = "
    CREATE DATABASE shop;
    CREATE USER weak@'%' IDENTIFIED BY 'word';
    CREATE USER lone@'%' WITH MAX_USER_CONNECTIONS 1;
    CREATE USER strong@'%';
    GRANT SELECT ON shop.* TO weak@'%';
    GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO strong@'%';
    USE shop;
    CREATE TABLE parent (id INT PRIMARY KEY, due INT);
    CREATE TABLE child (
        parent INT NOT NULL, name VARCHAR(3), CHECK (parent < 1000),
        FOREIGN KEY (parent) REFERENCES parent (id)
    );
    SET max_heap_table_size = 16384;
    CREATE TABLE heap (t CHAR(255)) ENGINE=MEMORY;
    INSERT INTO parent (id) VALUES (1), (2);
";

/// A statement that must fail, after one that prepares it.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "a key that is taken",
        "",
        "INSERT INTO parent (id) VALUES (1)",
    ),
    (
        "a parent that is absent",
        "",
        "INSERT INTO child VALUES (9, NULL)",
    ),
    (
        "NULL where there may be none",
        "",
        "INSERT INTO child VALUES (NULL, NULL)",
    ),
    ("a check", "", "INSERT INTO child VALUES (1000, NULL)"),
    (
        "a text too long",
        "",
        "INSERT INTO child VALUES (1, 'long')",
    ),
    (
        "a number out of range",
        "",
        "INSERT INTO parent (id) VALUES (3000000000)",
    ),
    ("a table that is absent", "", "SELECT * FROM nowhere"),
    ("a column that is absent", "", "SELECT x FROM parent"),
    ("a syntax error", "", "SELEC 1"),
    (
        "the statement's time limit",
        "SET max_statement_time = 0.02",
        "SELECT SLEEP(60) FROM parent",
    ),
    (
        "a table that is full",
        "SET max_statement_time = 0",
        "INSERT INTO heap SELECT 'x' FROM seq_1_to_1000",
    ),
    (
        "a transaction that may not write",
        "START TRANSACTION READ ONLY",
        "DELETE FROM parent",
    ),
    (
        "a key that is taken, in a transaction",
        "ROLLBACK; BEGIN",
        "INSERT INTO parent (id) VALUES (1)",
    ),
];

#[tokio::test]
async fn every_row_of_the_table_is_said_by_mariadb() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, every_row()).await.unwrap();
}

async fn every_row() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(StartError::NotFound(_)) => return, // the tests of the proof say so
        Err(error) => panic!("{error}"),
    };
    let mut table = Table::of("MariaDB");
    let root = server.url("mysql");
    let mut one = MySqlConnection::connect(&root).await.unwrap();
    sqlx::raw_sql(SCHEMA).execute(&mut one).await.unwrap();
    let shop = server.url("shop");
    let at = shop.find('@').unwrap();
    let login = |who: &str| format!("mysql://{who}{}", &shop[at..]);
    let mut two = MySqlConnection::connect(&shop).await.unwrap();

    // Before there is a connection.
    let nobody = MySqlConnection::connect("mysql://a@127.0.0.1:1/b").await;
    table.saw("nobody listens", Phase::Connect, nobody);
    let absent = MySqlConnection::connect(&server.url("absent")).await;
    table.saw("a database that is absent", Phase::Connect, absent);
    let stranger = MySqlConnection::connect(&login("weak:wrong")).await;
    table.saw("a wrong password", Phase::Connect, stranger);
    let lone = MySqlConnection::connect(&login("lone")).await.unwrap_err();
    // It has no right on the database; what counts is the second connection.
    drop(lone);
    one.execute("GRANT SELECT ON shop.* TO lone@'%'")
        .await
        .unwrap();
    let lone = MySqlConnection::connect(&login("lone")).await.unwrap();
    let second = MySqlConnection::connect(&login("lone")).await;
    table.saw("too many connections of one login", Phase::Connect, second);
    lone.close().await.unwrap();
    one.execute("SET GLOBAL max_connections = 10")
        .await
        .unwrap();
    let mut many = Vec::new();
    let full = loop {
        match MySqlConnection::connect(&login("strong")).await {
            Ok(another) => many.push(another),
            Err(error) => break error,
        }
    };
    table.saw::<(), _>("too many connections", Phase::Connect, Err(full));
    for another in many {
        another.close().await.unwrap();
    }
    one.execute("SET GLOBAL max_connections = 100")
        .await
        .unwrap();
    let small = MySqlPoolOptions::new().max_connections(1);
    let small = small
        .acquire_timeout(Duration::from_millis(50))
        .connect(&shop)
        .await
        .unwrap();
    let held = small.acquire().await.unwrap();
    table.saw(
        "a pool without a free connection",
        Phase::Connect,
        small.acquire().await,
    );
    drop(held);

    // Refused statements.
    for (how, before, statement) in REFUSED {
        if !before.is_empty() {
            sqlx::raw_sql(*before).execute(&mut one).await.unwrap();
        }
        let phase = if before.ends_with("BEGIN") {
            Phase::InTransaction
        } else {
            Phase::Statement
        };
        table.saw(
            how,
            phase,
            sqlx::raw_sql(*statement).execute(&mut one).await,
        );
    }
    one.execute("ROLLBACK").await.unwrap();
    let mut weak = MySqlConnection::connect(&login("weak:word")).await.unwrap();
    table.saw(
        "a right that is missing",
        Phase::Statement,
        weak.execute("DELETE FROM parent").await,
    );
    let mut strong = MySqlConnection::connect(&login("strong")).await.unwrap();
    one.execute("SET GLOBAL read_only = 1").await.unwrap();
    table.saw(
        "a server that takes no writes",
        Phase::Statement,
        strong.execute("DELETE FROM child").await,
    );
    one.execute("SET GLOBAL read_only = 0").await.unwrap();
    let none = sqlx::query("SELECT 1 FROM parent WHERE id = 99")
        .fetch_one(&mut one)
        .await;
    table.saw("no row", Phase::Read, none);

    // Transactions that meet.
    for connection in [&mut one, &mut two] {
        let prepare = "SET innodb_lock_wait_timeout = 20; BEGIN";
        sqlx::raw_sql(prepare).execute(connection).await.unwrap();
    }
    one.execute("UPDATE parent SET due = 1 WHERE id = 1")
        .await
        .unwrap();
    two.execute("UPDATE parent SET due = 1 WHERE id = 2")
        .await
        .unwrap();
    let (first, second) = tokio::join!(
        one.execute("UPDATE parent SET due = 2 WHERE id = 2"),
        two.execute("UPDATE parent SET due = 2 WHERE id = 1"),
    );
    table.saw("a deadlock", Phase::InTransaction, first.and(second));
    for connection in [&mut one, &mut two] {
        let prepare = "ROLLBACK; SET innodb_lock_wait_timeout = 1; BEGIN";
        sqlx::raw_sql(prepare).execute(connection).await.unwrap();
    }
    one.execute("UPDATE parent SET due = 1 WHERE id = 1")
        .await
        .unwrap();
    let wait = two.execute("UPDATE parent SET due = 1 WHERE id = 1").await;
    table.saw(
        "a lock that did not come in time",
        Phase::InTransaction,
        wait,
    );
    let now = two
        .execute("SELECT * FROM parent WHERE id = 1 FOR UPDATE NOWAIT")
        .await;
    table.saw("a lock that is not to be had", Phase::InTransaction, now);

    // Statements and connections that end.
    sqlx::raw_sql("ROLLBACK; SET innodb_lock_wait_timeout = 60")
        .execute(&mut two)
        .await
        .unwrap();
    let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
        .fetch_one(&mut two)
        .await
        .unwrap();
    let mut three = MySqlConnection::connect(&shop).await.unwrap();
    let ((), said) = tokio::join!(
        async {
            let waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
            while three.fetch_optional(waits).await.unwrap().is_none() {
                // InnoDB refreshes this table only when nobody has looked for 100 ms.
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            let kill: &'static str = format!("KILL QUERY {id}").leak();
            three.execute(kill).await.unwrap();
        },
        two.execute("UPDATE parent SET due = 3 WHERE id = 1"),
    );
    table.saw("somebody stopped the statement", Phase::Statement, said);
    one.execute("ROLLBACK").await.unwrap();
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
        let mut fourth = MySqlConnection::connect(&shop).await.unwrap();
        let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
            .fetch_one(&mut fourth)
            .await
            .unwrap();
        let kill: &'static str = format!("KILL {id}").leak();
        let there: &'static str =
            format!("SELECT 1 FROM information_schema.processlist WHERE id = {id}").leak();
        three.execute(kill).await.unwrap();
        while three.fetch_optional(there).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        let mut error = StoreError::of_sqlx(fourth.execute("SELECT 1").await.unwrap_err(), phase);
        // It comes as 1927 or as the end of the stream, by who is faster.
        if error.code() == Some("1927") {
            error = StoreError::of_sqlx(fourth.execute("SELECT 1").await.unwrap_err(), phase);
        }
        table.row(how, &error);
    }
    let (proxy, through) = Proxy::before(&shop).await.unwrap();
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
        ("a black hole, by itself", Phase::Statement, None),
    ] {
        proxy.heal().await.unwrap();
        let mut third = MySqlConnection::connect(&through).await.unwrap();
        disturb(&proxy, "SELECT 1", cut);
        let deadline = Deadline::after(Duration::from_millis(500));
        let said: Result<_, StoreError> = deadline.run(phase, third.execute("SELECT 1")).await;
        table.saw(how, phase, said);
    }
    table.compare();
}
