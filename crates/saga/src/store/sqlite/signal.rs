//! What is sent to sagas on SQLite.

use buttress_store::{Loan, Micros, Phase, StoreError};
use sqlx::{Sqlite, SqliteConnection};

use super::SqliteStore;
use crate::{
    SagaId,
    rows::{self, SignalsRow},
    store::{NewSignal, Sent, Signals},
};

impl SqliteStore {
    /// Nobody else writes while this transaction does.
    pub(super) async fn signal_on(
        &self,
        connection: &mut SqliteConnection,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        let now = Micros::of_host().get();
        let (id, key) = (&signal.saga.as_bytes()[..], signal.key.as_bytes());
        // The write comes first, so that a deferred transaction takes its turn here. Who is woken in
        // vain looks, and goes on waiting.
        let wake = sqlx::query(&self.sql.wake).bind(now).bind(id);
        wake.execute(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let (known, state, count): (bool, Option<i64>, i64) = sqlx::query_as(&self.sql.not_sent)
            .bind(id)
            .bind(key)
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        if let Some(refused) = rows::not_sent(known, state)? {
            return Ok(refused);
        }
        if count >= i64::from(signal.most) {
            return Ok(Sent::Full);
        }
        sqlx::query(&self.sql.signal)
            .bind(id)
            .bind(key)
            .bind(count)
            .bind(now)
            .bind(&signal.name)
            .bind(&signal.payload)
            .execute(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(Sent::New)
    }

    pub(super) async fn signals_of(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.read_gate
            .run(async |deadline| {
                let mut loan = Loan::<Sqlite>::acquire(&self.reader, deadline).await?;
                let look = sqlx::query_as(&self.sql.signals)
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
