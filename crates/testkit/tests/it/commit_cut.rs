//! A COMMIT of sqlx's is cut before, during and after it was done, and only the proxy knows which.

use buttress_testkit::{
    mysql, postgres,
    proxy::{Cut, Proxy, Way},
};
use sqlx::{AssertSqlSafe, MySqlPool, PgPool};

const TRIES: u64 = 10;

/// A test for one database: their types have no executor in common.
macro_rules! commit_is_cut {
    ($claim:ident, $kind:ident, $pool:ty) => {
        #[tokio::test]
        async fn $claim() -> Result<(), sqlx::Error> {
            let Some(database) = $kind::fresh_database().await else {
                return Ok(());
            };
            let direct = <$pool>::connect(database.url()).await?;
            sqlx::raw_sql("CREATE TABLE written (id BIGINT)")
                .execute(&direct)
                .await?;
            let (proxy, url) = Proxy::before(database.url()).await.unwrap();
            let pool = <$pool>::connect(&url).await?;
            let mut struck = 0;
            for (cut, done) in [
                (Cut::Before, Some(false)),
                (Cut::During, None),
                (Cut::Answer, Some(true)),
            ] {
                for _ in 0..TRIES {
                    struck += 1;
                    let mut transaction = pool.begin().await?;
                    let insert = format!("INSERT INTO written VALUES ({struck})");
                    sqlx::raw_sql(AssertSqlSafe(insert))
                        .execute(&mut *transaction)
                        .await?;
                    proxy.cut_at(Way::ToServer, "COMMIT", cut);
                    let error = transaction.commit().await.unwrap_err();
                    assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
                    assert_eq!(proxy.struck(), struck);
                    let select = format!("SELECT count(*) FROM written WHERE id = {struck}");
                    if let Some(done) = done {
                        let count: i64 = sqlx::query_scalar(AssertSqlSafe(select))
                            .fetch_one(&direct)
                            .await?;
                        assert_eq!(count == 1, done, "{cut:?}");
                    }
                }
            }
            pool.close().await;
            direct.close().await;
            database.close().await
        }
    };
}

commit_is_cut!(
    a_commit_to_postgres_is_cut_where_it_was_wanted,
    postgres,
    PgPool
);
commit_is_cut!(
    a_commit_to_mysql_is_cut_where_it_was_wanted,
    mysql,
    MySqlPool
);
