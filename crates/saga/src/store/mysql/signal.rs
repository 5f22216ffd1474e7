//! What is sent to sagas on MySQL 8 and MariaDB.

use buttress_store::{Loan, Phase, StoreError};
use sqlx::MySqlConnection;

use super::MySqlStore;
use crate::{
    SagaId,
    rows::{self, SignalsRow},
    store::{NewSignal, Sent, Signals},
};

impl MySqlStore {
    /// Under the lock of the saga's row.
    pub(super) async fn signal_on(
        &self,
        connection: &mut MySqlConnection,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        let (id, key) = (&signal.saga.as_bytes()[..], signal.key.as_bytes());
        let lock = sqlx::query_as(&self.sql.lock).bind(id);
        let state: Option<(i64,)> = lock
            .fetch_optional(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let others: Vec<(i64,)> = sqlx::query_as(&self.sql.not_sent)
            .bind(key)
            .bind(id)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let known = others.iter().any(|(same,)| *same != 0);
        if let Some(refused) = rows::not_sent(known, state.map(|it| it.0))? {
            return Ok(refused);
        }
        if others.len() >= signal.most as usize {
            return Ok(Sent::Full);
        }
        sqlx::query(&self.sql.signal)
            .bind(id)
            .bind(key)
            .bind(rows::count(others.len()))
            .bind(&signal.name)
            .bind(&signal.payload)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let wake = sqlx::query(&self.sql.wake).bind(id);
        wake.execute(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(Sent::New)
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
