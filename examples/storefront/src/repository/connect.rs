//! From a URL to a database that is ready: connected, migrated, seeded.

use std::{sync::Arc, time::Duration};

use buttress_saga::Sagas;
use buttress_store::{Deadline, Phase};
use sqlx::{
    ConnectOptions, Connection as _, Executor, mysql::MySqlConnectOptions,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

use super::{Database, StoreError, mysql, postgres, sqlite};

/// How long an instance waits for its turn to look at the schema, and for the look itself.
pub(super) const STARTED_WITHIN: Duration = Duration::from_secs(25);
/// Under which name the subscriber takes events.
pub(super) const SUBSCRIBER: &str = "subscriber";

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the database URL must begin with sqlite:, postgres: or mysql:")]
    UnknownScheme,
    #[error("the database URL cannot be read")]
    BadUrl,
    #[error("the database cannot be prepared")]
    Store(#[from] StoreError),
    #[error("the schema cannot be migrated")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the tables of keys, events or sagas cannot be made")]
    Tables(#[from] buttress_store::MigrateError),
    #[error("the lease of the keys cannot work")]
    Lease(#[from] buttress_store::LeaseTermsError),
    #[error("the gate before the sagas cannot work")]
    Gate(#[from] buttress_store::GateError),
    #[error("the policy of idempotency keys cannot work")]
    Policy(#[from] buttress_idempotency::PolicyError),
    #[error("the subscriber's name cannot be one")]
    Subscriber(#[from] buttress_outbox::MessageError),
}

/// Connects to `url`, migrates the schema, and seeds the catalogue if it was never seeded. The
/// sagas are kept in the same database.
///
/// Any number of instances may do so at once on one database.
pub(crate) async fn connect(url: &str) -> Result<(Database, Sagas), ConnectError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => {
            let store = sqlite::Store::connect(url).await?;
            let sagas = store.sagas().await?;
            Ok((Arc::new(store), sagas))
        }
        Some("postgres" | "postgresql") => {
            let store = postgres::Store::connect(url).await?;
            let sagas = store.sagas().await?;
            Ok((Arc::new(store), sagas))
        }
        Some("mysql" | "mariadb") => {
            let store = mysql::Store::connect(url).await?;
            let sagas = store.sagas().await?;
            Ok((Arc::new(store), sagas))
        }
        _ => Err(ConnectError::UnknownScheme),
    }
}

/// Whether there are orders in the database. Changes nothing in it, and does not make it.
pub(crate) async fn has_orders(url: &str) -> Result<bool, ConnectError> {
    let deadline = Deadline::after(STARTED_WITHIN);
    let found = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => {
            let options = url.parse::<SqliteConnectOptions>();
            let options = options.map_err(|_| ConnectError::BadUrl)?;
            if !options.get_filename().exists() {
                return Ok(false);
            }
            deadline.run(Phase::Read, any_order(options)).await
        }
        Some("postgres" | "postgresql") => {
            let options = url.parse::<PgConnectOptions>();
            let options = options.map_err(|_| ConnectError::BadUrl)?;
            deadline.run(Phase::Read, any_order(options)).await
        }
        Some("mysql" | "mariadb") => {
            let options = url.parse::<MySqlConnectOptions>();
            let options = options.map_err(|_| ConnectError::BadUrl)?;
            deadline.run(Phase::Read, any_order(options)).await
        }
        _ => return Err(ConnectError::UnknownScheme),
    };
    Ok(found?)
}

/// Each row of a table of that name is one too many, whoever made it.
async fn any_order<O: ConnectOptions>(options: O) -> sqlx::Result<bool>
where
    O::Connection: Sized,
    for<'c> &'c mut O::Connection: Executor<'c>,
{
    let mut connection = options.connect().await?;
    let any = (&mut connection).fetch_optional("SELECT 1 FROM orders LIMIT 1");
    let any = any.await.map(|row| row.is_some());
    connection.close().await?;
    match any {
        Err(error) if names_no_table(&error) => Ok(false),
        any => any,
    }
}

/// Whether the database says that there is no such table.
fn names_no_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let code = error.code();
        // SQLite has no code of its own for it.
        matches!(code.as_deref(), Some("42P01" | "42S02"))
            || error.message().starts_with("no such table")
    })
}
