//! Checked names make and query real tables.

use buttress_store::{Dialect, Statement, Tables};
use buttress_testkit::{mysql, postgres::fresh_database};
use sqlx::{MySqlPool, PgPool, SqlitePool};

/// The shortest, the longest, words of SQL, and what begins oddly.
const ACCEPTED: [&str; 6] = [
    "_",
    "a",
    "select",
    "order",
    "x0_",
    "ppppppppppppppppppppppppppppppppppppppppp",
];

fn statements(name: &str, schema: Option<&str>, dialect: Dialect) -> [Statement; 3] {
    let mut tables = Tables::default().with_prefix(name).unwrap();
    if let Some(schema) = schema {
        tables = tables.in_schema(schema).unwrap();
    }
    [
        "CREATE TABLE {schema}{prefix}_table (id BIGINT PRIMARY KEY, due BIGINT)",
        "CREATE INDEX {prefix}_due ON {schema}{prefix}_table (due)",
        "SELECT COUNT(*) FROM {schema}{prefix}_table",
    ]
    .map(|sql| Statement::new(sql, &tables, dialect).unwrap())
}

#[tokio::test]
async fn accepted_names_make_and_query_a_table_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = PgPool::connect(database.url()).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA \"order\"")
        .execute(&pool)
        .await
        .unwrap();
    for name in ACCEPTED {
        for schema in [None, Some("order")] {
            let [create, index, count] = statements(name, schema, Dialect::Postgres);
            sqlx::raw_sql(&create).execute(&pool).await.unwrap();
            sqlx::raw_sql(&index).execute(&pool).await.unwrap();
            let count: i64 = sqlx::query_scalar(&count).fetch_one(&pool).await.unwrap();
            assert_eq!(count, 0, "{name}");
        }
    }
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn accepted_names_make_and_query_a_table_on_sqlite() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    for name in ACCEPTED {
        let [create, index, count] = statements(name, None, Dialect::Sqlite);
        sqlx::raw_sql(&create).execute(&pool).await.unwrap();
        sqlx::raw_sql(&index).execute(&pool).await.unwrap();
        let count: i64 = sqlx::query_scalar(&count).fetch_one(&pool).await.unwrap();
        assert_eq!(count, 0, "{name}");
    }
}

#[tokio::test]
async fn accepted_names_make_and_query_a_table_on_mariadb() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = MySqlPool::connect(database.url()).await.unwrap();
    for name in ACCEPTED {
        let [create, index, count] = statements(name, None, Dialect::MySql);
        sqlx::raw_sql(&create).execute(&pool).await.unwrap();
        sqlx::raw_sql(&index).execute(&pool).await.unwrap();
        let count: i64 = sqlx::query_scalar(&count).fetch_one(&pool).await.unwrap();
        assert_eq!(count, 0, "{name}");
    }
    pool.close().await;
    database.close().await.unwrap();
}
