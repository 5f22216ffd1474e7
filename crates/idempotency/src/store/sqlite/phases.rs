//! Phases and abandoned keys in SQLite.

use buttress_store::{Deadline, Fence, Loan, Micros, Phase, StoreError};
use sqlx::SqliteConnection;

use super::SqliteStore;
use crate::{
    ScopedKey,
    store::{Adopted, Adoption, Checkpoint, Orphaned, Postponement, adopted, length_before},
};

impl SqliteStore {
    pub(super) async fn checkpoint_alone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let store = || {
            let query = sqlx::query(&self.sql.checkpoint)
                .bind(&checkpoint.after[..])
                .bind(length_before(checkpoint))
                .bind(&checkpoint.after[..]);
            Self::fenced(query, key, &fence)
        };
        Ok(self.execute(store).await? > 0)
    }

    pub(super) async fn checkpoint_on(
        &self,
        connection: &mut SqliteConnection,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(&self.sql.checkpoint_in)
            .bind(&checkpoint.after[..])
            .bind(length_before(checkpoint));
        let done = Self::fenced(query, key, &fence).execute(connection).await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }

    async fn orphan(
        &self,
        connection: &mut SqliteConnection,
        adoption: &Adoption,
    ) -> Result<Option<Orphaned>, sqlx::Error> {
        let now = Micros::of_host();
        sqlx::query_as(&self.sql.orphan)
            .bind(now.get())
            .bind((now - adoption.idle).get())
            .bind(adoption.driver.as_bytes())
            .fetch_optional(connection)
            .await
    }

    /// When nothing is due, that is read, and nobody waits for the writer.
    pub(super) async fn adopt_one(
        &self,
        adoption: &Adoption,
    ) -> Result<Option<Adopted>, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(self.writer.pool(), deadline).await?;
                let orphan = self.orphan(&mut loan, adoption);
                let orphan = deadline.run(Phase::Read, orphan).await?;
                loan.give_back();
                if orphan.is_none() {
                    return Ok(None);
                }
                let mut transaction = self.writer.begin(deadline).await?;
                let take_up = self.take_up(&mut transaction, adoption);
                let taken = deadline.run(Phase::InTransaction, take_up).await;
                // Read once it is written: what nobody can read counts, and stands in nobody's way.
                let row = transaction.finish(taken).await?;
                row.map(|row| adopted(row, adoption.token)).transpose()
            })
            .await
    }

    /// In a transaction that writes: nobody else does.
    async fn take_up(
        &self,
        connection: &mut SqliteConnection,
        adoption: &Adoption,
    ) -> Result<Option<Orphaned>, StoreError> {
        let row = self.orphan(connection, adoption).await;
        let Some(mut row) = row.map_err(StoreError::in_transaction)? else {
            return Ok(None);
        };
        (row.1, row.5) = (row.1.saturating_add(1), row.5.saturating_add(1));
        let lease_until = Micros::of_host() + adoption.lease;
        let goes_on = row.5 < i64::from(adoption.last_drive);
        let adopt = sqlx::query(&self.sql.adopt)
            .bind(row.1)
            .bind(&adoption.token.as_bytes()[..])
            .bind(lease_until.get())
            .bind((lease_until + adoption.retention).get())
            .bind(row.5)
            .bind(goes_on.then(|| lease_until.get()))
            .bind(&row.0[..])
            .execute(connection)
            .await;
        adopt.map_err(StoreError::in_transaction)?;
        Ok(Some(row))
    }

    pub(super) async fn postpone_one(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        let postpone = || {
            let now = Micros::of_host();
            let query = sqlx::query(&self.sql.postpone)
                .bind(to.delay.map(|delay| (now + delay).get()))
                .bind(i64::from(!to.counts))
                .bind(to.free.then_some(1_i64))
                .bind(to.free.then(|| now.get()));
            Self::fenced(query, key, &fence)
        };
        Ok(self.execute(postpone).await? > 0)
    }

    pub(super) async fn unpark_one(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        let unpark = || {
            sqlx::query(&self.sql.unpark)
                .bind(Micros::of_host().get())
                .bind(key.as_bytes())
        };
        Ok(self.execute(unpark).await? > 0)
    }
}
