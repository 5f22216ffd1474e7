//! What an operator asks and does.

use std::time::Duration;

use buttress_store::{Phase, StoreError};

use super::{PostgresStore, history, micros};
use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
    store::{Counted, counted},
};

type WaitingParts = (Vec<u8>, i64, i32, i32, i32, i64, String);
type DeadParts = (i64, Vec<u8>, i64, i64, i32, i32, Vec<u8>, Vec<u8>, String);

type PastParts = (i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

impl PostgresStore {
    pub(super) async fn counts_now(&self, topic: &Topic) -> Result<Counts, StoreError> {
        let counts = sqlx::query_as(&self.sql.counts).bind(topic.as_str());
        let row: Counted = self.fetch_one(Phase::Read, counts).await?;
        let writers = sqlx::query_as(&self.sql.writers);
        let writers: (i64, i64) = self.fetch_one(Phase::Read, writers).await?;
        Ok(counted(row, writers))
    }

    pub(super) async fn dead_now(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<DeadRow>, StoreError> {
        let dead = sqlx::query_as(&self.sql.dead)
            .bind(topic.as_str())
            .bind(after)
            .bind(i64::from(most));
        let rows: Vec<DeadParts> = self.fetch(Phase::Read, dead).await?;
        let row = |parts: DeadParts| DeadRow {
            id: parts.0,
            key: parts.1,
            created_at: parts.2,
            died_at: parts.3,
            history: history(parts.4, parts.5, 0),
            attributes: parts.6,
            payload: parts.7,
            error: parts.8,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn history_now(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<PastRow>, StoreError> {
        let history = sqlx::query_as(&self.sql.history)
            .bind(topic.as_str())
            .bind(after)
            .bind(i64::from(most));
        let rows: Vec<PastParts> = self.fetch(Phase::Read, history).await?;
        let row = |(id, key, created_at, delivered_at, attributes, payload)| PastRow {
            id,
            key,
            created_at,
            delivered_at,
            attributes,
            payload,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn waiting_now(
        &self,
        topic: &Topic,
        most: u32,
    ) -> Result<Vec<WaitingRow>, StoreError> {
        let waiting = sqlx::query_as(&self.sql.waiting).bind(topic.as_str());
        let waiting = waiting.bind(i64::from(most));
        let rows: Vec<WaitingParts> = self.fetch(Phase::Read, waiting).await?;
        let row = |(key, head, failures, lapses, waits, until, error)| WaitingRow {
            key,
            head,
            history: history(failures, lapses, waits),
            until,
            error,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn prune_now(
        &self,
        topic: &Topic,
        kept: Duration,
        most: u32,
    ) -> Result<u64, StoreError> {
        let aside = sqlx::query(&self.sql.prune_aside).bind(topic.as_str());
        self.execute(aside).await?;
        let relays = sqlx::query(&self.sql.prune_relays).bind(topic.as_str());
        self.execute(relays).await?;
        let prune = sqlx::query(&self.sql.prune)
            .bind(topic.as_str())
            .bind(micros(kept))
            .bind(i64::from(most));
        self.execute(prune).await
    }
}
