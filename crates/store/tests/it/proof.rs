//! The kept proof: what a dropped `begin()` does to plain sqlx, and not to us.

/// A connection may come back while the next one waits for it, so one sweep does not meet every
/// await.
const SWEEPS: u32 = 10;

/// One database: sqlx as it is, a hardened pool, and ours on a pool that is not hardened.
macro_rules! proof {
    ($database:ident, $name:literal, $pool:ty, $options:ty) => {
        mod $database {
            use buttress_store::{Deadline, Guarded, Harden as _};
            use buttress_testkit::{
                cancel_sweep,
                clean_pool::{self, Unclean},
                proxy::Proxy,
                $database::fresh_database,
            };

            /// One connection, so that the next borrower gets the one that was dropped.
            fn alone() -> $options {
                <$options>::new().max_connections(1)
            }

            /// At how many points of how many the next borrower's acknowledged write was lost.
            async fn sweep<F: Future>(pool: &$pool, begin: impl Fn() -> F) -> (u32, u32) {
                let (mut lost, mut points) = (0, 0);
                for _ in 0..super::SWEEPS {
                    let swept = cancel_sweep(
                        async || drop(begin().await),
                        async |_| match clean_pool::probe(pool).await {
                            Err(Unclean::LostWrite { .. }) => lost += 1,
                            proven => assert_eq!(proven.unwrap(), 1),
                        },
                    )
                    .await;
                    points += swept.points;
                }
                assert!(points > 3 * super::SWEEPS, "{points} points are no sweeps");
                (lost, points)
            }

            #[tokio::test]
            async fn plain_sqlx_loses_an_acknowledged_write() {
                let tally = buttress_testkit::tally::suite("X14 X1");
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await.unwrap();
                let pool = alone().connect(&through).await.unwrap();
                let (lost, points) = sweep(&pool, || pool.begin()).await;
                println!("{}: plain sqlx loses at {lost} of {points} points", $name);
                assert!(lost > 0, "sqlx is well again: say so, and keep the guard");
                pool.close().await;
                database.close().await.unwrap();
                tally.caught(1);
            }

            #[tokio::test]
            async fn a_hardened_pool_loses_none() {
                let _tally = buttress_testkit::tally::suite("X14 X1");
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await.unwrap();
                let pool = alone().harden().connect(&through).await.unwrap();
                let (lost, points) = sweep(&pool, || pool.begin()).await;
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
                let _tally = buttress_testkit::tally::suite("X14 X1");
                let Some(database) = fresh_database().await else {
                    return;
                };
                let (_proxy, through) = Proxy::before(database.url()).await.unwrap();
                let pool = alone().connect(&through).await.unwrap();
                let begin = || Guarded::begin(&pool, Deadline::after(Deadline::SQL));
                let (lost, points) = sweep(&pool, begin).await;
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
    sqlx::postgres::PgPoolOptions
);
proof!(
    mysql,
    "MariaDB",
    sqlx::MySqlPool,
    sqlx::mysql::MySqlPoolOptions
);
