//! The queries, one file for what one service asks. Compiled once for each database: `super` is
//! its own file, with its `Store`, `Dialect`, `Connection` and `now`.
//!
//! A read borrows a connection, a write begins a transaction; both are given up, not given back,
//! when their future is dropped or their deadline strikes. So a caller may go at any time.

mod events;
mod ledger;
pub(super) mod orders;
mod products;
mod settlement;
mod shipments;

use async_trait::async_trait;
use buttress_idempotency::{Begin, Refusal};
use buttress_store::Loan;
use sqlx::Row as _;

use super::{
    super::{Acceptance, Health, KeyState, Result},
    Connection, Deadline, Dialect, Phase, Store, now, sql,
};

type Row = <Dialect as sqlx::Database>::Row;

impl Store {
    /// A connection to read from, and the time to do so.
    async fn borrow(&self) -> Result<Loan<Dialect>> {
        Loan::acquire(self.reader(), Deadline::after(Deadline::SQL)).await
    }
}

/// What is answered to an order whose key is not ours.
pub(super) fn answered<G>(begun: Begin<G>) -> Acceptance {
    match begun.accepted() {
        Ok(Ok(_)) => Acceptance::Refused(Refusal::Mismatch),
        Ok(Err(answer)) => Acceptance::Replayed(answer),
        Err(refusal) => Acceptance::Refused(refusal),
    }
}

/// Ends a read: the connection goes back if all went well.
fn returned<T>(loan: Loan<Dialect>, read: Result<T>) -> Result<T> {
    if read.is_ok() {
        loan.give_back();
    }
    read
}

#[async_trait]
impl Health for Store {
    async fn ping(&self) -> Result<()> {
        let mut loan = self.borrow().await?;
        let ping = loan.deadline().run(Phase::Read, ping(&mut loan)).await;
        returned(loan, ping)
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

async fn ping(connection: &mut Connection) -> sqlx::Result<()> {
    sqlx::query("SELECT 1").execute(connection).await?;
    Ok(())
}

/// Reads a word of one of our enums.
fn word<T: std::str::FromStr>(row: &Row, column: &'static str) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| unreadable(column))
}

/// Reads a word of one of our enums where there may be none.
fn word_or_none<T: std::str::FromStr>(row: &Row, column: &'static str) -> sqlx::Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| unreadable(column)))
        .transpose()
}

/// Data that this program does not understand.
fn unreadable(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{column} holds a word that is none of ours").into())
}

/// A time that stands in a column as microseconds since 1970.
fn time(micros: i64, column: &'static str) -> sqlx::Result<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(micros).map_err(|_| unreadable(column))
}

/// What stands under `key` in one of the tables of the services behind the shop.
async fn key_state(tx: &mut Connection, query: &'static str, key: &str) -> sqlx::Result<KeyState> {
    let state: String = sqlx::query_scalar(query).bind(key).fetch_one(tx).await?;
    match state.as_str() {
        "done" => Ok(KeyState::Done),
        "cancelled" => Ok(KeyState::Cancelled),
        _ => Err(unreadable("state")),
    }
}
