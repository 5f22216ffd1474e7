//! What is sent to sagas on MySQL 8 and MariaDB.

use buttress_store::{Loan, Phase, StoreError};
use sqlx::MySqlConnection;

use super::MySqlStore;
use crate::{
    SagaId,
    rows::{self, SignalsRow},
    store::{NewSignal, Sent, Signals},
};

/// At which level a transaction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// READ COMMITTED.
    Ours,
    /// Whatever the user has chosen; REPEATABLE READ, if he has not.
    Theirs,
}

impl MySqlStore {
    /// Under the lock of the saga's row.
    pub(super) async fn signal_on(
        &self,
        connection: &mut MySqlConnection,
        level: Level,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        let (id, key) = (&signal.saga.as_bytes()[..], signal.key.as_bytes());
        let lock = sqlx::query_as(&self.sql.lock).bind(id);
        let state: Option<(i64,)> = lock
            .fetch_optional(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let (known, count): (i64, i64) = sqlx::query_as(&self.sql.not_sent)
            .bind(key)
            .bind(id)
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        if let Some(refused) = rows::not_sent(known > 0, state.map(|it| it.0))? {
            return Ok(refused);
        }
        if count >= i64::from(signal.most) {
            return Ok(Sent::Full);
        }
        let insert = sqlx::query(&self.sql.signal)
            .bind(id)
            .bind(key)
            .bind(count)
            .bind(&signal.name)
            .bind(&signal.payload)
            .execute(&mut *connection);
        match insert.await {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Ok(Sent::Known);
            }
            Err(error) => return Err(StoreError::in_transaction(error)),
        }
        self.wake_on(connection, level, signal.saga).await?;
        Ok(Sent::New)
    }

    /// Makes a saga due, whose row is locked, if it listens.
    pub(super) async fn wake_on(
        &self,
        connection: &mut MySqlConnection,
        level: Level,
        id: SagaId,
    ) -> Result<(), StoreError> {
        let id = &id.as_bytes()[..];
        if level == Level::Theirs {
            // To look for what is not there would lock its place, and keep others from listening.
            let hears: Option<(i64,)> = sqlx::query_as(&self.sql.hears)
                .bind(id)
                .fetch_optional(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            if hears.is_none() {
                let hear = sqlx::query(&self.sql.hear).bind(id);
                hear.execute(&mut *connection)
                    .await
                    .map_err(StoreError::in_transaction)?;
            }
        }
        let wake = sqlx::query(&self.sql.wake).bind(id);
        wake.execute(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(())
    }

    pub(super) async fn signals_of(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let look = sqlx::query_as(&self.sql.signals)
                    .bind(&id.as_bytes()[..])
                    .bind(&id.as_bytes()[..])
                    .bind(&id.as_bytes()[..])
                    .bind(name)
                    .fetch_one(&mut *loan);
                let found: SignalsRow = deadline.run(Phase::Read, look).await?;
                loan.give_back();
                rows::signals(found)
            })
            .await
    }
}
