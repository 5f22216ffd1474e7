//! The kept proof: what a dropped `begin()` does to plain sqlx, and not to us.

/// One database: sqlx as it is, a hardened pool, and ours on a pool that is not hardened.
macro_rules! proof {
    ($database:ident, $name:literal, $pool:ty, $options:ty, $connection:ty) => {
        mod $database {
            use buttress_store::{Deadline, Guarded, Harden as _};
            use buttress_testkit::{cancel_sweep::cancel_sweep, $database::fresh_database};
            use sqlx::{Connection as _, Executor as _};

            use crate::proxy::Proxy;

            /// One connection, so that the next borrower gets the one that was dropped.
            fn alone() -> $options {
                <$options>::new().max_connections(1)
            }

            /// At how many points of how many the next borrower's acknowledged write was lost.
            async fn sweep<F: Future>(
                pool: &$pool,
                url: &str,
                begin: impl Fn() -> F,
            ) -> (u32, u32) {
                let mut observer = <$connection>::connect(url).await.unwrap();
                let create = "CREATE TABLE orders (id INT)";
                observer.execute(create).await.unwrap();
                let mut lost = 0;
                let swept = cancel_sweep(
                    async || drop(begin().await),
                    async |_| {
                        let done = pool.execute("INSERT INTO orders VALUES (1)").await;
                        assert_eq!(done.unwrap().rows_affected(), 1, "it is acknowledged");
                        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
                        let seen: i64 = count.fetch_one(&mut observer).await.unwrap();
                        if seen == 0 {
                            lost += 1;
                            // So that the next point is looked at by itself.
                            sqlx::raw_sql("ROLLBACK").execute(pool).await.unwrap();
                        }
                        observer.execute("DELETE FROM orders").await.unwrap();
                    },
                )
                .await;
                assert!(swept.points >= 4, "{} points are no sweep", swept.points);
                (lost, swept.points)
            }

            #[tokio::test]
            async fn plain_sqlx_loses_an_acknowledged_write() {
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await;
                let pool = alone().connect(&through).await.unwrap();
                let (lost, points) = sweep(&pool, database.url(), || pool.begin()).await;
                println!("{}: plain sqlx loses at {lost} of {points} points", $name);
                assert!(lost > 0, "sqlx is well again: say so, and keep the guard");
                pool.close().await;
                database.close().await.unwrap();
            }

            #[tokio::test]
            async fn a_hardened_pool_loses_none() {
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await;
                let pool = alone().harden().connect(&through).await.unwrap();
                let (lost, points) = sweep(&pool, database.url(), || pool.begin()).await;
                println!(
                    "{}: a hardened pool loses at {lost} of {points} points",
                    $name
                );
                assert_eq!(lost, 0);
                pool.close().await;
                database.close().await.unwrap();
            }

            #[tokio::test]
            async fn a_guarded_transaction_on_a_plain_pool_loses_none() {
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await;
                let pool = alone().connect(&through).await.unwrap();
                let begin = || Guarded::begin(&pool, Deadline::after(Deadline::SQL));
                let (lost, points) = sweep(&pool, database.url(), begin).await;
                println!("{}: guarded loses at {lost} of {points} points", $name);
                assert_eq!(lost, 0);
                pool.close().await;
                database.close().await.unwrap();
            }
        }
    };
}

proof!(
    postgres,
    "PostgreSQL",
    sqlx::PgPool,
    sqlx::postgres::PgPoolOptions,
    sqlx::PgConnection
);
proof!(
    mysql,
    "MariaDB",
    sqlx::MySqlPool,
    sqlx::mysql::MySqlPoolOptions,
    sqlx::MySqlConnection
);
