//! What an operator asks and does.

use std::time::Duration;

use buttress_store::{Deadline, StoreError};

use super::{SqliteStore, ago, history, now, step};
use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
    store::{Counted, counted},
};

type WaitingParts = (Vec<u8>, i64, i32, i32, i32, i64, String);
type DeadParts = (i64, Vec<u8>, i64, i64, i32, i32, Vec<u8>, Vec<u8>, String);

type PastParts = (i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

impl SqliteStore {
    pub(super) async fn counts_now(&self, topic: &Topic) -> Result<Counts, StoreError> {
        let counts = sqlx::query_as(&self.sql.counts)
            .bind(topic.as_str())
            .bind(now());
        let row: Counted = self.fetch_one(counts).await?;
        Ok(counted(row, (0, 0)))
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
            .bind(most);
        let rows: Vec<DeadParts> = self.fetch(dead).await?;
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

    /// Takes a dead letter away, and puts it back into its lane if that is asked for.
    pub(super) async fn undead(
        &self,
        topic: &Topic,
        id: i64,
        put_back: Option<Option<Vec<u8>>>,
    ) -> Result<bool, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let done = async {
                if let Some(attributes) = put_back {
                    let put_back = sqlx::query(&self.sql.put_back)
                        .bind(topic.as_str())
                        .bind(id)
                        .bind(attributes);
                    step(&mut transaction, put_back).await?;
                }
                let freed = sqlx::query(&self.sql.freed).bind(topic.as_str()).bind(id);
                step(&mut transaction, freed).await?;
                let undead = sqlx::query(&self.sql.undead).bind(topic.as_str()).bind(id);
                Ok(step(&mut transaction, undead).await? == 1)
            };
            let done = done.await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
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
            .bind(most);
        let rows: Vec<PastParts> = self.fetch(history).await?;
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
        let waiting = sqlx::query_as(&self.sql.waiting)
            .bind(topic.as_str())
            .bind(now())
            .bind(most);
        let rows: Vec<WaitingParts> = self.fetch(waiting).await?;
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
        let hour = ago(Duration::from_secs(3600));
        let relays = sqlx::query(&self.sql.prune_relays).bind(topic.as_str());
        self.execute(relays.bind(hour)).await?;
        let prune = sqlx::query(&self.sql.prune)
            .bind(topic.as_str())
            .bind(ago(kept))
            .bind(most);
        self.execute(prune).await
    }
}
