//! Migrations from eight processes at once, some of them killed: the schema is a single run's.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use buttress_store::{Dialect, Migration, Migrations, Tables, sqlite};
use buttress_testkit::{mysql, postgres};
use rand::RngExt as _;
use sqlx::{MySqlPool, PgPool, Row as _, SqlitePool};

const PROCESSES: usize = 8;
const KILLED: usize = 4;
const ROUNDS: usize = 5;
/// Where a child finds its database. Without it there is nothing to do.
const URL: &str = "BUTTRESS_TEST_MIGRATED_URL";

/// What each dialect understands, and MySQL can repeat.
const STEPS: &[Migration] = &[
    Migration::new(
        1,
        "CREATE TABLE IF NOT EXISTS {schema}{prefix}one (id BIGINT PRIMARY KEY, due BIGINT NOT NULL)",
    ),
    Migration::new(
        2,
        "CREATE TABLE IF NOT EXISTS {schema}{prefix}two (id BIGINT PRIMARY KEY, UNIQUE (id))",
    ),
    Migration::new(
        3,
        "DROP TABLE IF EXISTS {schema}{prefix}two; CREATE TABLE IF NOT EXISTS {schema}{prefix}two (id BIGINT PRIMARY KEY)",
    ),
    Migration::new(
        4,
        "CREATE TABLE IF NOT EXISTS {schema}{prefix}four (id BIGINT PRIMARY KEY)",
    ),
    Migration::new(
        5,
        "CREATE TABLE IF NOT EXISTS {schema}{prefix}five (id BIGINT PRIMARY KEY); CREATE TABLE IF NOT EXISTS {schema}{prefix}six (id BIGINT PRIMARY KEY)",
    ),
    Migration::new(
        6,
        "DELETE FROM {schema}{prefix}one; INSERT INTO {schema}{prefix}one VALUES (1, 2), (3, 4)",
    ),
];

fn migrations(dialect: Dialect) -> Migrations {
    Migrations::new("race", STEPS, &Tables::default(), dialect).unwrap()
}

fn sqlite_pool(url: &str) -> SqlitePool {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let file = url.trim_start_matches("sqlite:");
    SqlitePool::connect_lazy_with(sqlite::options(file))
}

/// Migrates what `url` leads to, and describes it.
async fn migrate(url: &str) -> Vec<String> {
    if url.starts_with("postgres:") {
        let pool = PgPool::connect(url).await.unwrap();
        migrations(Dialect::Postgres).migrate(&pool).await.unwrap();
        migrations(Dialect::Postgres).check(&pool).await.unwrap();
        let columns = "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable)
            FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT concat_ws(' ', version, checksum) FROM buttress_migrations
            UNION ALL SELECT concat_ws(' ', id, due) FROM buttress_one ORDER BY 1";
        let rows = sqlx::query(columns).fetch_all(&pool).await.unwrap();
        pool.close().await;
        return rows.iter().map(|row| row.get(0)).collect();
    }
    if url.starts_with("mysql:") {
        let pool = MySqlPool::connect(url).await.unwrap();
        migrations(Dialect::MySql).migrate(&pool).await.unwrap();
        migrations(Dialect::MySql).check(&pool).await.unwrap();
        let columns =
            "SELECT CONCAT_WS(' ', table_name, column_name, column_type, column_key) AS line
            FROM information_schema.columns WHERE table_schema = DATABASE()
            UNION ALL SELECT CONCAT_WS(' ', version, checksum) FROM buttress_migrations
            UNION ALL SELECT CONCAT_WS(' ', id, due) FROM buttress_one ORDER BY line";
        let rows = sqlx::query(columns).fetch_all(&pool).await.unwrap();
        pool.close().await;
        return rows.iter().map(|row| row.get(0)).collect();
    }
    let pool = sqlite_pool(url);
    migrations(Dialect::Sqlite).migrate(&pool).await.unwrap();
    migrations(Dialect::Sqlite).check(&pool).await.unwrap();
    let schema = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL
        UNION ALL SELECT version || ' ' || checksum FROM buttress_migrations
        UNION ALL SELECT id || ' ' || due FROM buttress_one ORDER BY 1";
    let rows = sqlx::query(schema).fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_process_migrates() {
    if let Ok(url) = std::env::var(URL) {
        drop(migrate(&url).await);
    }
}

fn process(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "migrate_race::a_process_migrates"])
        .env(URL, url)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Eight at once; the first few are killed at some time, the others must succeed.
async fn race(url: &str) -> usize {
    let mut processes: Vec<Child> = (0..PROCESSES).map(|_| process(url)).collect();
    let mut killed = 0;
    for victim in &mut processes[..KILLED] {
        let after = rand::rng().random_range(0..60);
        tokio::time::sleep(Duration::from_millis(after)).await;
        killed += usize::from(victim.try_wait().unwrap().is_none());
        // It fails when the process is gone, which is as well.
        let _ = victim.kill();
    }
    for (number, child) in processes.into_iter().enumerate() {
        // What it says fits into a pipe, so it is not kept from ending.
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(
            number < KILLED || ended.status.success(),
            "process {number}: {}\n{said}",
            ended.status
        );
    }
    killed
}

#[tokio::test]
async fn eight_processes_some_killed_leave_the_schema_of_a_single_run_on_postgres() {
    let tally = buttress_testkit::tally::suite("X12 X5");
    let mut single = None;
    for round in 0..=ROUNDS {
        let Some(database) = postgres::fresh_database().await else {
            return;
        };
        if round > 0 {
            assert!(race(database.url()).await <= KILLED);
        }
        let schema = migrate(database.url()).await;
        assert_eq!(&schema, single.get_or_insert(schema.clone()));
        database.close().await.unwrap();
    }
    tally.operations(ROUNDS * PROCESSES);
}

#[tokio::test]
async fn eight_processes_some_killed_leave_the_schema_of_a_single_run_on_mariadb() {
    let tally = buttress_testkit::tally::suite("X12 X5");
    let mut single = None;
    for round in 0..=ROUNDS {
        let Some(database) = mysql::fresh_database().await else {
            return;
        };
        if round > 0 {
            assert!(race(database.url()).await <= KILLED);
        }
        let schema = migrate(database.url()).await;
        assert_eq!(&schema, single.get_or_insert(schema.clone()));
        database.close().await.unwrap();
    }
    tally.operations(ROUNDS * PROCESSES);
}

#[tokio::test]
async fn eight_processes_some_killed_leave_the_schema_of_a_single_run_on_sqlite() {
    let tally = buttress_testkit::tally::suite("X12 X5");
    let mut single = None;
    for round in 0..=ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("file.db").display());
        if round > 0 {
            assert!(race(&url).await <= KILLED);
        }
        let schema = migrate(&url).await;
        assert_eq!(&schema, single.get_or_insert(schema.clone()));
    }
    tally.operations(ROUNDS * PROCESSES);
}
