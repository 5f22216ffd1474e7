//! Emptying pieces in which all is settled.

use buttress_store::{Deadline, Guarded, Isolation, Phase, StoreError, class::StoreErrorKind};
use sqlx::{Postgres, query::QueryAs};

use super::{super::PostgresStore, statements::Piece};
use crate::store::Truncated;

/// What became of one piece.
enum Emptied {
    Yes,
    /// There was nothing in it.
    Was,
    Pinned,
    /// Another relay is at it.
    NotNow,
}

impl PostgresStore {
    /// Of the pieces in which no ids are being given, those in which all is settled. An id that was
    /// given long ago and has no row yet is no worry: what is emptied is what is there, and its row
    /// comes after.
    pub(in crate::store::postgres) async fn truncate_now(&self) -> Result<Truncated, StoreError> {
        let mut truncated = Truncated::default();
        let idle: Vec<(i64,)> = self
            .fetch(Phase::Read, sqlx::query_as(&self.ring.idle))
            .await?;
        for piece in &self.ring.pieces {
            if !idle.contains(&(piece.slot,)) {
                continue;
            }
            match self.empty(piece).await {
                Ok(Emptied::Yes) => truncated.pieces += 1,
                Ok(Emptied::Pinned) => truncated.pinned += 1,
                Ok(Emptied::Was) => {}
                Ok(Emptied::NotNow) => break,
                // Whoever reads in it, or has appended and not ended, is not waited for.
                Err(error) if error.kind() == StoreErrorKind::Contended => truncated.busy += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(truncated)
    }

    async fn empty(&self, piece: &Piece) -> Result<Emptied, StoreError> {
        let run = async |deadline: Deadline| {
            let at = Isolation::ReadCommitted;
            let mut transaction = Guarded::begin_at(at, &self.pool, deadline).await?;
            let done = self.empty_in(&mut transaction, piece).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    async fn empty_in(
        &self,
        transaction: &mut Guarded<Postgres>,
        piece: &Piece,
    ) -> Result<Emptied, StoreError> {
        let deadline = transaction.deadline();
        let work = Phase::InTransaction;
        let turn: (bool,) = one(transaction, sqlx::query_as(&self.ring.turn)).await?;
        if !turn.0 {
            return Ok(Emptied::NotNow);
        }
        let used: (bool,) = one(transaction, sqlx::query_as(&piece.is_used)).await?;
        if !used.0 {
            return Ok(Emptied::Was);
        }
        // Asked before, so that nobody is kept waiting for nothing; and under the lock, for what
        // was committed until then counts.
        let unsettled: (i64,) = one(transaction, sqlx::query_as(&piece.unsettled)).await?;
        if unsettled.0 > 0 {
            return Ok(Emptied::Pinned);
        }
        for sql in [&self.ring.impatience, &piece.lock] {
            let done = sqlx::query(sql).execute(&mut **transaction);
            deadline.run(work, done).await?;
        }
        let unsettled: (i64,) = one(transaction, sqlx::query_as(&piece.unsettled)).await?;
        if unsettled.0 > 0 {
            return Ok(Emptied::Pinned);
        }
        for sql in [&piece.fold, &piece.truncate] {
            let done = sqlx::query(sql).execute(&mut **transaction);
            deadline.run(work, done).await?;
        }
        Ok(Emptied::Yes)
    }
}

async fn one<T>(
    transaction: &mut Guarded<Postgres>,
    query: QueryAs<'_, Postgres, T, sqlx::postgres::PgArguments>,
) -> Result<T, StoreError>
where
    T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    let deadline = transaction.deadline();
    let row = query.fetch_one(&mut **transaction);
    deadline.run(Phase::InTransaction, row).await
}
