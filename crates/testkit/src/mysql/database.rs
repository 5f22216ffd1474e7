//! A fresh database for one test.

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
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

    /// Drops the database. Connections to it stay, and find nothing any more; one that still has
    /// a transaction on it open makes this wait.
    ///
    /// Dropping the future may leave the database behind, as forgetting it does.
    ///
    /// # Errors
    ///
    /// When the server is gone or refuses.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        let mut connection = MySqlConnection::connect(&self.server).await?;
        let sql = format!("DROP DATABASE `{}`", self.name);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await
    }
}

/// Creates an empty database on the server of [`shared_url`]; its first use may block for the
/// seconds that a server takes to start.
///
/// `None` when MariaDB is not there: the gap is then registered, and said on the run's last line,
/// so a test only has to return:
///
/// ```no_run
/// # async fn a_test() -> Result<(), sqlx::Error> {
/// let Some(database) = buttress_testkit::mysql::fresh_database().await else {
///     return Ok(());
/// };
/// let pool = sqlx::MySqlPool::connect(database.url()).await?;
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
        Err(error) => panic!("no fresh database on the MySQL server: {error}"),
    }
}

async fn create(server: String) -> Result<Database, Box<dyn std::error::Error>> {
    let mut connection = MySqlConnection::connect(&server).await?;
    // Ours and not the server's: its UUIDs are made of its clock and address, which hosts share.
    let name = format!("buttress_test_{:032x}", rand::random::<u128>());
    let sql = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let mut url = Url::parse(&server)?;
    url.set_path(&name);
    Ok(Database { name, url, server })
}
