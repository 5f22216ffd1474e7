//! How a key that is there already is taken over in MySQL.

use buttress_store::{Deadline, Guarded, Isolation, Phase, StoreError};
use sqlx::MySql;

use super::{MySqlStore, Row, decided};
use crate::store::{Answer, Decision, Request, micros};

impl MySqlStore {
    pub(super) async fn take_over(
        &self,
        deadline: Deadline,
        request: &Request<'_>,
    ) -> Result<Option<Answer>, StoreError> {
        let level = Isolation::ReadCommitted;
        let mut transaction = Guarded::begin_at(level, &self.pool, deadline).await?;
        let taken = self.take_over_in(&mut transaction, deadline, request).await;
        transaction.finish(taken).await
    }

    async fn take_over_in(
        &self,
        transaction: &mut Guarded<MySql>,
        deadline: Deadline,
        request: &Request<'_>,
    ) -> Result<Option<Answer>, StoreError> {
        let lock = sqlx::query_as(&self.sql.lock)
            .bind(request.key.as_bytes())
            .fetch_optional(&mut **transaction);
        let row: Option<Row> = deadline.run(Phase::InTransaction, lock).await?;
        let Some(row) = row else {
            // Somebody else writes it just now: how he ended is seen at the next look.
            return Ok(None);
        };
        let passed = row.7.clone().unwrap_or_default();
        let fence = match decided(row, request)? {
            Decision::Say(answer) => return Ok(Some(answer)),
            Decision::Claim(fence) => fence,
        };
        let epoch = fence.epoch();
        let fingerprint = request.fingerprint.to_bytes();
        let update = sqlx::query(&self.sql.take_over)
            .bind(fence.epoch())
            .bind(&request.token.as_bytes()[..])
            .bind(&fingerprint[..])
            .bind(micros(request.lease))
            .bind(micros(request.lease.saturating_add(request.retention)))
            .bind(epoch)
            .bind(epoch)
            .bind(epoch)
            .bind(due(request))
            .bind(epoch)
            .bind(request.driver.as_bytes())
            .bind(epoch)
            .bind(request.payload)
            .bind(request.key.as_bytes())
            .execute(&mut **transaction);
        deadline.run(Phase::InTransaction, update).await?;
        Ok(Some(match epoch {
            1 => Answer::Claimed(fence),
            _ => Answer::claimed(fence, passed.into()),
        }))
    }
}

/// When a completer may have it, from now: not before the lease is over.
pub(super) fn due(request: &Request<'_>) -> Option<i64> {
    request.payload.map(|_| micros(request.lease))
}
