//! The queries, one file for what one service asks. Compiled once for each database: `super` is
//! its own file, with its `Store`, `Dialect`, `Connection` and `now`.

mod claims;
mod ledger;
mod orders;
mod products;
mod progress;
mod shipments;

use std::future::Future;

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::{Health, KeyState, Result, StoreError},
    Connection, Dialect, Store, now,
};

#[async_trait]
impl Health for Store {
    async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(self.reader()).await?;
        Ok(())
    }

    async fn close(&self) {
        self.reader().close().await;
        self.writer().close().await;
    }
}

type Row = <Dialect as sqlx::Database>::Row;

/// Runs `work` to its end even when the caller goes.
///
/// Dropping a transaction's future while its BEGIN or COMMIT is on the way can leave a pooled
/// connection inside a transaction, and the next borrower's writes in it. So whatever writes in
/// more than one statement runs on a task of its own, which nobody drops.
async fn to_the_end<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and the database with it.
            Err(_) => Err(StoreError::from(sqlx::Error::PoolClosed)),
        },
    }
}

/// Reads a word of one of our enums.
fn word<T: std::str::FromStr>(row: &Row, column: &'static str) -> Result<T> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| StoreError::unreadable(column))
}

/// Reads a word of one of our enums where there may be none.
fn word_or_none<T: std::str::FromStr>(row: &Row, column: &'static str) -> Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| StoreError::unreadable(column)))
        .transpose()
}

/// What stands under `key` in one of the tables of the services behind the shop.
async fn key_state(tx: &mut Connection, query: &'static str, key: &str) -> Result<KeyState> {
    let state: String = sqlx::query_scalar(query).bind(key).fetch_one(tx).await?;
    match state.as_str() {
        "done" => Ok(KeyState::Done),
        "cancelled" => Ok(KeyState::Cancelled),
        _ => Err(StoreError::unreadable("state")),
    }
}
