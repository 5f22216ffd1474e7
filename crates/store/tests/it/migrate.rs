//! Migrations: applied once, checked, printed, changed.

use buttress_store::{Dialect, MigrateError, Migration, Migrations, Tables};
use buttress_testkit::postgres::fresh_database;
use sqlx::{PgPool, SqlitePool};

pub(crate) const STEPS: &[Migration] = &[
    Migration::new(
        1,
        "CREATE TABLE {schema}{prefix}lane (id BIGINT NOT NULL PRIMARY KEY);\n\
         CREATE INDEX {prefix}lane_id ON {schema}{prefix}lane (id);",
    ),
    Migration::new(2, "ALTER TABLE {schema}{prefix}lane ADD COLUMN due BIGINT"),
    Migration::new(
        5,
        "INSERT INTO {schema}{prefix}lane (id, due) VALUES (1, 2), (3, 4)",
    ),
];

fn migrations(steps: &[Migration], tables: &Tables, dialect: Dialect) -> Migrations {
    Migrations::new("lanes", steps, tables, dialect).unwrap()
}

#[tokio::test]
async fn what_is_missing_is_applied_once_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = PgPool::connect(database.url()).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA elsewhere")
        .execute(&pool)
        .await
        .unwrap();
    for tables in [
        Tables::default(),
        Tables::default().in_schema("elsewhere").unwrap(),
        Tables::default().with_prefix("shop_").unwrap(),
    ] {
        let whole = migrations(STEPS, &tables, Dialect::Postgres);
        let error = whole.check(&pool).await.unwrap_err().to_string();
        assert!(
            error.contains("[1, 2, 5]") && error.contains("migrate()"),
            "{error}"
        );
        migrations(&STEPS[..1], &tables, Dialect::Postgres)
            .migrate(&pool)
            .await
            .unwrap();
        let error = whole.check(&pool).await.unwrap_err();
        assert!(matches!(error, MigrateError::Missing { versions, .. } if versions == [2, 5]));
        whole.migrate(&pool).await.unwrap();
        whole.migrate(&pool).await.unwrap();
        whole.check(&pool).await.unwrap();
        // An older program runs on while a newer one is rolled out.
        migrations(&STEPS[..1], &tables, Dialect::Postgres)
            .check(&pool)
            .await
            .unwrap();
    }
    let count = sqlx::query_scalar("SELECT count(*) FROM elsewhere.buttress_lane");
    assert_eq!(count.fetch_one(&pool).await.ok(), Some(2_i64));
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_applied_once_on_sqlite() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let whole = migrations(STEPS, &Tables::default(), Dialect::Sqlite);
    assert!(matches!(
        whole.check(&pool).await,
        Err(MigrateError::Missing { .. })
    ));
    whole.migrate(&pool).await.unwrap();
    whole.migrate(&pool).await.unwrap();
    whole.check(&pool).await.unwrap();
}

#[tokio::test]
async fn a_changed_migration_is_an_error_and_changes_nothing() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let tables = Tables::default();
    migrations(&STEPS[..1], &tables, Dialect::Sqlite)
        .migrate(&pool)
        .await
        .unwrap();
    let changed = [Migration::new(1, "SELECT 1"), STEPS[1]];
    let changed = migrations(&changed, &tables, Dialect::Sqlite);
    for result in [changed.check(&pool).await, changed.migrate(&pool).await] {
        assert!(matches!(
            result,
            Err(MigrateError::Changed { version: 1, .. })
        ));
    }
    let recorded = sqlx::query_scalar("SELECT count(*) FROM buttress_migrations");
    assert_eq!(recorded.fetch_one(&pool).await.ok(), Some(1_i64));
}

#[tokio::test]
async fn a_pool_of_another_dialect_is_refused() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let theirs = migrations(STEPS, &Tables::default(), Dialect::Postgres);
    let result = theirs.migrate(&pool).await;
    assert!(matches!(result, Err(MigrateError::WrongDialect { .. })));
}

#[tokio::test]
async fn a_step_that_fails_leaves_no_trace_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = PgPool::connect(database.url()).await.unwrap();
    let steps = [
        STEPS[0],
        Migration::new(2, "CREATE TABLE {prefix}y (id nosuchtype)"),
    ];
    let broken = migrations(&steps, &Tables::default(), Dialect::Postgres);
    let error = broken.migrate(&pool).await.unwrap_err();
    assert!(matches!(error, MigrateError::Store(error) if error.code() == Some("42704")));
    let tables = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables.fetch_one(&pool).await.ok(), Some(0_i64));
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn what_is_printed_does_the_same_and_records_it() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let whole = migrations(STEPS, &Tables::default(), Dialect::Sqlite);
    run_printed(&pool, &whole.print()).await;
    whole.check(&pool).await.unwrap();
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = PgPool::connect(database.url()).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA \"order\"")
        .execute(&pool)
        .await
        .unwrap();
    let tables = Tables::default().in_schema("order").unwrap();
    let whole = migrations(STEPS, &tables, Dialect::Postgres);
    run_printed(&pool, &whole.print()).await;
    whole.check(&pool).await.unwrap();
    pool.close().await;
    database.close().await.unwrap();
}

/// As somebody's own tool does. The text is leaked, for sqlx takes a literal without a question.
async fn run_printed<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, sql: &str)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let sql: &'static str = sql.to_owned().leak();
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
}
