//! What SQLite says.

use std::{path::Path, process::Command, time::Duration};

use buttress_store::{Phase, sqlite};
use sqlx::{ConnectOptions as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::Table;

const SCHEMA: &str = "
    CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
    CREATE TABLE child (parent INTEGER NOT NULL REFERENCES parent, CHECK (parent < 1000));
    CREATE TABLE big (bytes BLOB);
    INSERT INTO parent VALUES (1, 'a');
";

async fn open(options: SqliteConnectOptions) -> SqliteConnection {
    options
        .busy_timeout(Duration::ZERO)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_row_of_the_table_is_said_by_sqlite() {
    let _tally = buttress_testkit::tally::suite("RB2");
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.db");
    let mut table = Table::of("SQLite");
    let mut one = open(sqlite::options(&file)).await;
    let mut two = open(sqlite::options(&file)).await;
    one.execute(SCHEMA).await.unwrap();

    let absent = SqliteConnectOptions::new().filename(folder.path().join("absent/x.db"));
    table.saw(
        "a file that is absent",
        Phase::Connect,
        absent.connect().await,
    );
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, [7; 4096]).unwrap();
    let mut garbage = open(SqliteConnectOptions::new().filename(garbage)).await;
    let said = garbage.execute("SELECT * FROM sqlite_schema").await;
    table.saw("a file that is no database", Phase::Read, said);

    for (how, statement) in [
        (
            "a primary key that is taken",
            "INSERT INTO parent VALUES (1, 'b')",
        ),
        (
            "a unique key that is taken",
            "INSERT INTO parent VALUES (2, 'a')",
        ),
        ("a parent that is absent", "INSERT INTO child VALUES (9)"),
        (
            "NULL where there may be none",
            "INSERT INTO child VALUES (NULL)",
        ),
        ("a check", "INSERT INTO child VALUES (1000)"),
        ("a text for a rowid", "INSERT INTO parent VALUES ('x', 'y')"),
        (
            "a value too long",
            "INSERT INTO big VALUES (zeroblob(2000000000))",
        ),
        ("a table that is absent", "SELECT * FROM nowhere"),
    ] {
        let said = one.execute(statement).await;
        table.saw(how, Phase::Statement, said);
    }

    two.execute("BEGIN; SELECT * FROM parent").await.unwrap();
    one.execute("BEGIN IMMEDIATE; INSERT INTO parent VALUES (3, 'c')")
        .await
        .unwrap();
    table.saw(
        "another writes",
        Phase::Statement,
        two.execute("INSERT INTO parent VALUES (4, 'd')").await,
    );
    one.execute("COMMIT").await.unwrap();
    let late = two.execute("INSERT INTO parent VALUES (4, 'd')").await;
    table.saw(
        "another wrote since the first read",
        Phase::InTransaction,
        late,
    );
    two.execute("ROLLBACK").await.unwrap();

    let read_only = SqliteConnectOptions::new().filename(&file).read_only(true);
    let mut reader = open(read_only).await;
    table.saw(
        "a file opened for reading",
        Phase::Statement,
        reader.execute("DELETE FROM parent").await,
    );

    one.execute("PRAGMA max_page_count = 20").await.unwrap();
    for (how, phase) in [
        ("the file may not grow", Phase::Statement),
        (
            "the file may not grow, in a transaction",
            Phase::InTransaction,
        ),
    ] {
        let said = one
            .execute("INSERT INTO big VALUES (randomblob(100000))")
            .await;
        table.saw(how, phase, said);
    }
    table.lines.extend(on_a_small_disk(folder.path()));
    table.compare();
}

/// Rows of a process of its own, which may write no large file: its disk does not take more.
fn on_a_small_disk(folder: &Path) -> Vec<String> {
    let child = Command::new("/bin/sh")
        // Ignored, the signal becomes an error of the write.
        .args(["-c", r#"trap "" XFSZ; ulimit -f 200; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "class::sqlite::a_disk_that_does_not_take_it",
        ])
        .env(SMALL, folder.join("small.db"))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    said.lines()
        .filter(|it| it.starts_with("| "))
        .map(str::to_owned)
        .collect()
}

/// Where the child's database is. Without it there is nothing to do.
const SMALL: &str = "BUTTRESS_TEST_SMALL_DISK";

#[tokio::test]
async fn a_disk_that_does_not_take_it() {
    let Ok(file) = std::env::var(SMALL) else {
        return;
    };
    let mut table = Table::of("");
    let mut one = open(sqlite::options(file)).await;
    one.execute(SCHEMA).await.unwrap();
    for (how, phase) in [
        (
            "the disk does not take it, in a transaction",
            Phase::InTransaction,
        ),
        ("the disk does not take it, by itself", Phase::Statement),
        ("the disk does not take it, at the commit", Phase::Commit),
    ] {
        let said = one
            .execute("INSERT INTO big VALUES (randomblob(1000000))")
            .await;
        table.saw(how, phase, said);
    }
    println!();
    for line in table.lines {
        println!("{line}");
    }
}
