//! What is sent to sagas on PostgreSQL.

use buttress_store::{Loan, Phase, StoreError};
use sqlx::PgConnection;

use super::PostgresStore;
use crate::{
    SagaId,
    rows::{self, SignalsRow},
    store::{NewSignal, Sent, Signals},
};

impl PostgresStore {
    pub(super) async fn signal_on(
        &self,
        connection: &mut PgConnection,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        let (id, key) = (&signal.saga.as_bytes()[..], signal.key.as_bytes());
        let sent = sqlx::query(&self.sql.signal)
            .bind(id)
            .bind(key)
            .bind(&signal.name)
            .bind(&signal.payload)
            .bind(i64::from(signal.most))
            .execute(&mut *connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Statement))?;
        if sent.rows_affected() > 0 {
            return Ok(Sent::New);
        }
        let (known, state): (bool, Option<i64>) = sqlx::query_as(&self.sql.not_sent)
            .bind(id)
            .bind(key)
            .fetch_one(connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
        Ok(rows::not_sent(known, state)?.unwrap_or(Sent::Full))
    }

    pub(super) async fn signals_of(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let look = sqlx::query_as(&self.sql.signals)
                    .bind(&id.as_bytes()[..])
                    .bind(name)
                    .fetch_optional(&mut *loan);
                let found: Option<SignalsRow> = deadline.run(Phase::Read, look).await?;
                loan.give_back();
                found.map_or_else(|| Ok(Signals::default()), rows::signals)
            })
            .await
    }
}
