//! Phases and abandoned keys in `PostgreSQL`.

use buttress_store::{Deadline, Fence, Loan, Phase, Statement, StoreError};
use sqlx::PgConnection;

use super::{PostgresStore, Sent};
use crate::{
    ScopedKey,
    store::{Adopted, Adoption, Checkpoint, Postponement, adopted, micros},
};

impl PostgresStore {
    fn checkpointing<'q>(
        statement: &Statement,
        key: &'q ScopedKey,
        fence: &'q Fence,
        checkpoint: &'q Checkpoint,
    ) -> Sent<'q> {
        let before = i32::try_from(checkpoint.before).unwrap_or(i32::MAX);
        Self::fenced(statement, key, fence)
            .bind(before)
            .bind(&checkpoint.after[..])
    }

    pub(super) async fn checkpoint_alone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let store = || Self::checkpointing(&self.sql.checkpoint, key, &fence, checkpoint);
        Ok(self.execute(store).await? > 0)
    }

    pub(super) async fn checkpoint_on(
        &self,
        connection: &mut PgConnection,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let store = Self::checkpointing(&self.sql.checkpoint_in, key, &fence, checkpoint);
        let done = store.execute(connection).await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }

    pub(super) async fn adopt_one(
        &self,
        adoption: &Adoption,
    ) -> Result<Option<Adopted>, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let adopt = sqlx::query_as(&self.sql.adopt)
                    .bind(&adoption.token.as_bytes()[..])
                    .bind(micros(adoption.lease))
                    .bind(micros(adoption.lease.saturating_add(adoption.retention)))
                    .bind(micros(adoption.idle))
                    .bind(i64::from(adoption.last_drive))
                    .bind(adoption.driver.as_bytes())
                    .fetch_optional(&mut *loan);
                let row = deadline.run(Phase::Statement, adopt).await?;
                loan.give_back();
                row.map(|row| adopted(row, adoption.token)).transpose()
            })
            .await
    }

    pub(super) async fn postpone_one(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        let postpone = || {
            Self::fenced(&self.sql.postpone, key, &fence)
                .bind(to.delay.map(micros))
                .bind(i64::from(!to.counts))
                .bind(to.free)
        };
        Ok(self.execute(postpone).await? > 0)
    }

    pub(super) async fn unpark_one(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        let unpark = || sqlx::query(&self.sql.unpark).bind(key.as_bytes());
        Ok(self.execute(unpark).await? > 0)
    }
}
