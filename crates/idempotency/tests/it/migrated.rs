//! Tables that an earlier version has made, with rows in them.

use buttress_idempotency::{Begin, Fingerprint, Idempotency, store::MySqlStore};
use buttress_store::{Dialect, Migration, Migrations, SqlDatabase, Tables};
use sqlx::Pool;

use crate::stand::{ASKED, OnMySql, OnPostgres, OnSqlite, key, new, sql};

fn first(text: &'static str, dialect: Dialect) -> Migrations {
    let steps = [Migration::new(1, text)];
    Migrations::new("idempotency", &steps, &Tables::default(), dialect).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows as the earlier version wrote them: one that is done, one whose worker died.
async fn fill<DB: SqlDatabase>(pool: &Pool<DB>, literal: fn(&str) -> String)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    for (name, state, outcome) in [("done", 2, literal("6f6c64")), ("died", 0, "NULL".into())] {
        let id = literal(&hex(key(name).as_bytes()));
        let (token, asked) = (literal(&"07".repeat(16)), literal(&hex(&ASKED.to_bytes())));
        let text = format!(
            "INSERT INTO buttress_idempotency VALUES \
             ({id}, 1, {token}, {asked}, {state}, 1, 9000000000000000, {outcome})"
        );
        let mut connection = pool.acquire().await.unwrap();
        let insert = sqlx::query::<DB>(sql(text));
        insert.execute(&mut *connection).await.unwrap();
    }
}

async fn judge(idempotency: &Idempotency) {
    let done = idempotency.begin(&key("done"), &ASKED).await.unwrap();
    assert!(matches!(done, Begin::Replay(outcome) if outcome == "old"));
    let other = Fingerprint::new(1, [9; 32]);
    let mismatch = idempotency.begin(&key("done"), &other).await.unwrap();
    assert!(matches!(mismatch, Begin::Mismatch));
    let mut guard = new(idempotency.begin(&key("died"), &ASKED).await.unwrap());
    assert!(guard.resumed());
    assert_eq!(guard.passed::<u64>("ride").unwrap(), None);
    guard.phase("ride", &7).await.unwrap();
    guard.release().await.unwrap();
    let request = "what an earlier version did not keep";
    let died = key("died");
    let begun = idempotency.begin_keeping(&died, &ASKED, request).await;
    let mut guard = new(begun.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(7));
    guard.complete("new").await.unwrap();
}

#[tokio::test]
async fn on_sqlite_rows_of_an_earlier_version_go_on() {
    let on = OnSqlite::start().await;
    let pool = on.writer.pool();
    for table in ["buttress_idempotency", "buttress_migrations"] {
        let drop = sqlx::query(sql(format!("DROP TABLE {table}")));
        drop.execute(pool).await.unwrap();
    }
    let text = include_str!("../../migrations/sqlite/0001_keys.sql");
    first(text, Dialect::Sqlite).migrate(pool).await.unwrap();
    fill(pool, |hex| format!("x'{hex}'")).await;
    on.store.migrate().await.unwrap();
    judge(&Idempotency::new(on.store.clone())).await;
}

#[tokio::test]
async fn on_postgres_rows_of_an_earlier_version_go_on() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    for table in ["buttress_idempotency", "buttress_migrations"] {
        let drop = sqlx::query(sql(format!("DROP TABLE {table}")));
        drop.execute(&on.pool).await.unwrap();
    }
    let text = include_str!("../../migrations/postgres/0001_keys.sql");
    let first = first(text, Dialect::Postgres);
    first.migrate(&on.pool).await.unwrap();
    fill(&on.pool, |hex| format!("'\\x{hex}'")).await;
    on.store.migrate().await.unwrap();
    judge(&Idempotency::new(on.store.clone())).await;
    on.close().await;
}

/// MySQL commits a step and what is recorded of it one after the other: whoever dies between the
/// two leaves the step to be done again.
#[tokio::test]
async fn on_mysql_rows_of_an_earlier_version_go_on_also_when_the_step_was_cut_short() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    for table in ["buttress_idempotency", "buttress_migrations"] {
        let drop = sqlx::query(sql(format!("DROP TABLE {table}")));
        drop.execute(&on.pool).await.unwrap();
    }
    let text = include_str!("../../migrations/mysql/0001_keys.sql");
    let first = first(text, Dialect::MySql);
    first.migrate(&on.pool).await.unwrap();
    fill(&on.pool, |hex| format!("x'{hex}'")).await;
    on.store.migrate().await.unwrap();
    let forget = "DELETE FROM buttress_migrations WHERE pattern = 'idempotency' AND version >= 2";
    let forgotten = sqlx::query(forget).execute(&on.pool).await.unwrap();
    assert_eq!(forgotten.rows_affected(), 2);
    on.store.migrate().await.unwrap();
    judge(&Idempotency::new(on.store.clone())).await;
    // The same in a database that is named.
    let name = format!("buttress_test_{:08x}", rand::random::<u32>());
    let create = sqlx::query(sql(format!("CREATE DATABASE {name}")));
    create.execute(&on.pool).await.unwrap();
    let tables = Tables::default().in_schema(&name).unwrap();
    let named = MySqlStore::with_tables(on.pool.clone(), &tables).unwrap();
    named.migrate().await.unwrap();
    let forget = format!("DELETE FROM {name}.buttress_migrations WHERE version >= 2");
    let forget = sqlx::query(sql(forget)).execute(&on.pool).await;
    assert_eq!(forget.unwrap().rows_affected(), 2);
    named.migrate().await.unwrap();
    let idempotency = Idempotency::new(named);
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    guard.phase("ride", &7).await.unwrap();
    guard.complete("done").await.unwrap();
    let drop = sqlx::query(sql(format!("DROP DATABASE {name}")));
    drop.execute(&on.pool).await.unwrap();
    on.close().await;
}
