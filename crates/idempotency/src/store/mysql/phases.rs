//! Phases and abandoned keys in MySQL.

use buttress_store::{
    Deadline, Fence, Guarded, Isolation, Loan, Phase, StoreError, StoreErrorKind,
};
use sqlx::{MySql, MySqlConnection};

use super::{MySqlStore, Sent};
use crate::{
    ScopedKey,
    store::{
        Adopted, Adoption, Checkpoint, Orphaned, Postponement, adopted, length_before, micros,
    },
};

impl MySqlStore {
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
        connection: &mut MySqlConnection,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(&self.sql.checkpoint_in)
            .bind(&checkpoint.after[..])
            .bind(length_before(checkpoint));
        let store: Sent<'_> = Self::fenced(query, key, &fence);
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
                let orphans = sqlx::query_scalar(&self.sql.orphans)
                    .bind(adoption.driver.as_bytes())
                    .bind(micros(adoption.idle))
                    .fetch_all(&mut *loan);
                let orphans: Vec<Vec<u8>> = deadline.run(Phase::Read, orphans).await?;
                loan.give_back();
                for id in orphans {
                    let level = Isolation::ReadCommitted;
                    let mut transaction = Guarded::begin_at(level, &self.pool, deadline).await?;
                    let taken = self.take_up(&mut transaction, deadline, adoption, &id);
                    let taken = taken.await;
                    match transaction.finish(taken).await {
                        Ok(None) => {}
                        // A deadlock took it back: another has it.
                        Err(error) if error.kind() == StoreErrorKind::Contended => {}
                        Err(error) => return Err(error),
                        // Read once it is written: what nobody can read counts, and stands in
                        // nobody's way.
                        Ok(Some(row)) => return adopted(row, adoption.token).map(Some),
                    }
                }
                Ok(None)
            })
            .await
    }

    async fn take_up(
        &self,
        transaction: &mut Guarded<MySql>,
        deadline: Deadline,
        adoption: &Adoption,
        id: &[u8],
    ) -> Result<Option<Orphaned>, StoreError> {
        let orphan = sqlx::query_as(&self.sql.orphan)
            .bind(adoption.driver.as_bytes())
            .bind(micros(adoption.idle))
            .bind(id)
            .fetch_optional(&mut **transaction);
        let row: Option<Orphaned> = deadline.run(Phase::InTransaction, orphan).await?;
        let Some(mut row) = row else {
            return Ok(None);
        };
        (row.1, row.5) = (row.1.saturating_add(1), row.5.saturating_add(1));
        let goes_on = row.5 < i64::from(adoption.last_drive);
        let adopt = sqlx::query(&self.sql.adopt)
            .bind(row.1)
            .bind(&adoption.token.as_bytes()[..])
            .bind(micros(adoption.lease))
            .bind(micros(adoption.lease.saturating_add(adoption.retention)))
            .bind(row.5)
            .bind(goes_on.then(|| micros(adoption.lease)))
            .bind(id)
            .execute(&mut **transaction);
        deadline.run(Phase::InTransaction, adopt).await?;
        Ok(Some(row))
    }

    pub(super) async fn postpone_one(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        let postpone = || {
            let query = sqlx::query(&self.sql.postpone)
                .bind(to.delay.map(micros))
                .bind(i64::from(!to.counts))
                .bind(to.free)
                .bind(to.free);
            Self::fenced(query, key, &fence)
        };
        Ok(self.execute(postpone).await? > 0)
    }

    pub(super) async fn unpark_one(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        let unpark = || sqlx::query(&self.sql.unpark).bind(key.as_bytes());
        Ok(self.execute(unpark).await? > 0)
    }
}
