//! A fresh database for one test.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

use super::shared_url;

/// An empty database that no other test knows.
///
/// Dropping the value only forgets the database: a private server's goes with the server, a given
/// server's stays until someone drops it. [`Database::close`] drops it.
#[derive(Debug)]
#[must_use = "the database is forgotten at once"]
pub struct Database {
    name: String,
    url: Url,
    server: String,
}

impl Database {
    /// How to reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Its name: `buttress_test_` and 32 hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops the database, and cuts the connections it still has.
    ///
    /// Dropping the future may leave the database behind, as forgetting it does.
    ///
    /// # Errors
    ///
    /// When the server is gone or refuses.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect(&self.server).await?;
        let sql = format!(r#"DROP DATABASE "{}" WITH (FORCE)"#, self.name);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await
    }
}

/// Creates an empty database on the server of [`shared_url`]; its first use may block for the
/// second or two that a server takes to start.
///
/// `None` when Postgres is not there: the gap is then registered, and said on the run's last
/// line, so a test only has to return:
///
/// ```no_run
/// # async fn a_test() -> Result<(), sqlx::Error> {
/// let Some(database) = buttress_testkit::postgres::fresh_database().await else {
///     return Ok(());
/// };
/// let pool = sqlx::PgPool::connect(database.url()).await?;
/// # drop(pool);
/// database.close().await
/// # }
/// ```
///
/// Dropping the future may leave a database behind, on a given server.
///
/// # Panics
///
/// When there is a server and it gives no database.
pub async fn fresh_database() -> Option<Database> {
    let server = match shared_url() {
        Ok(server) => server,
        Err(left_out) => {
            left_out.register();
            return None;
        }
    };
    match create(server).await {
        Ok(database) => Some(database),
        Err(error) => panic!("no fresh database on the PostgreSQL server: {error}"),
    }
}

async fn create(server: String) -> Result<Database, Box<dyn std::error::Error>> {
    let mut connection = PgConnection::connect(&server).await?;
    // The server makes the name: runs on several hosts may share it.
    let name: String =
        sqlx::query_scalar("SELECT 'buttress_test_' || replace(gen_random_uuid()::text, '-', '')")
            .fetch_one(&mut connection)
            .await?;
    // template0 is empty, whatever someone has put into template1.
    let sql = format!(r#"CREATE DATABASE "{name}" TEMPLATE template0"#);
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let mut url = Url::parse(&server)?;
    url.set_path(&name);
    Ok(Database { name, url, server })
}
