//! Our migrations beside the user's own, which sqlx runs, in one database.

use buttress_store::{Dialect, Migrations, Tables};
use buttress_testkit::{mysql, postgres};
use sqlx::{
    MySqlPool, PgPool, SqlSafeStr as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::migrate::STEPS;

/// How often they run at once.
const ROUNDS: usize = 10;

/// Who comes first.
#[derive(Clone, Copy, Debug)]
enum Order {
    Ours,
    Theirs,
    Together,
}

fn orders() -> impl Iterator<Item = Order> {
    let together = std::iter::repeat_n(Order::Together, ROUNDS);
    [Order::Ours, Order::Theirs].into_iter().chain(together)
}

/// The user's, as `sqlx::migrate!()` makes them: in the table `_sqlx_migrations`.
fn theirs() -> Migrator {
    let step = |version, sql: &'static str| {
        let kind = MigrationType::Simple;
        Migration::new(version, "orders".into(), kind, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        step(1, "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY)"),
        step(2, "ALTER TABLE orders ADD COLUMN due BIGINT"),
        step(3, "INSERT INTO orders (id, due) VALUES (1, 2)"),
    ])
}

/// The same on each database: their types have no executor in common.
macro_rules! beside {
    ($run:ident, $pool:ty, $dialect:ident) => {
        async fn $run(pool: &$pool, order: Order) {
            let new = Migrations::new("lanes", STEPS, &Tables::default(), Dialect::$dialect);
            let (ours, theirs) = (new.unwrap(), theirs());
            match order {
                Order::Ours => {
                    ours.migrate(pool).await.unwrap();
                    theirs.run(pool).await.unwrap();
                }
                Order::Theirs => {
                    theirs.run(pool).await.unwrap();
                    ours.migrate(pool).await.unwrap();
                }
                Order::Together => {
                    let (one, other, two) =
                        tokio::join!(ours.migrate(pool), theirs.run(pool), ours.migrate(pool));
                    one.unwrap();
                    other.unwrap();
                    two.unwrap();
                }
            }
            // Each finds its own again, and nothing to do.
            for _ in 0..2 {
                theirs.run(pool).await.unwrap();
                ours.check(pool).await.unwrap();
                ours.migrate(pool).await.unwrap();
            }
            for (count, expected) in [
                ("SELECT COUNT(*) FROM _sqlx_migrations", 3_i64),
                ("SELECT COUNT(*) FROM buttress_migrations", 3),
                ("SELECT COUNT(*) FROM orders", 1),
                ("SELECT COUNT(*) FROM buttress_lane", 2),
            ] {
                let found: i64 = sqlx::query_scalar(count).fetch_one(pool).await.unwrap();
                assert_eq!(found, expected, "{order:?}: {count}");
            }
            pool.close().await;
        }
    };
}

beside!(on_postgres, PgPool, Postgres);
beside!(on_mariadb, MySqlPool, MySql);
beside!(on_sqlite, SqlitePool, Sqlite);

#[tokio::test]
async fn ours_and_the_users_live_side_by_side_on_postgres() {
    for order in orders() {
        let Some(database) = postgres::fresh_database().await else {
            return;
        };
        let pool = PgPool::connect(database.url()).await.unwrap();
        on_postgres(&pool, order).await;
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn ours_and_the_users_live_side_by_side_on_mariadb() {
    for order in orders() {
        let Some(database) = mysql::fresh_database().await else {
            return;
        };
        let pool = MySqlPool::connect(database.url()).await.unwrap();
        on_mariadb(&pool, order).await;
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn ours_and_the_users_live_side_by_side_on_sqlite() {
    for order in orders() {
        let folder = tempfile::tempdir().unwrap();
        let options = buttress_store::sqlite::options(folder.path().join("file.db"));
        let pool = SqlitePool::connect_with(options).await.unwrap();
        on_sqlite(&pool, order).await;
    }
}
