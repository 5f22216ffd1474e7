//! What an operator asks and does.

use std::time::Duration;

use buttress_store::{Deadline, StoreError};

use super::{MySqlStore, history, micros, rows, step};
use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
    store::{Counted, counted},
};

type DeadParts = (i64, Vec<u8>, i64, i64, i32, i32, Vec<u8>, Vec<u8>, Vec<u8>);

type WaitingParts = (Vec<u8>, i64, i32, i32, i32, i64, Vec<u8>);

type PastParts = (i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

impl MySqlStore {
    pub(super) async fn counts_now(&self, topic: &Topic) -> Result<Counts, StoreError> {
        let topic = topic.as_str().as_bytes();
        let mut counts = sqlx::query_as(&self.sql.counts);
        for _ in 0..7 {
            counts = counts.bind(topic);
        }
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
            .bind(topic.as_str().as_bytes())
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
            error: String::from_utf8_lossy(&parts.8).into_owned(),
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
            let mut transaction = self.begin(deadline).await?;
            let done = async {
                // Two that ask for the same letter take turns.
                let lock = sqlx::query_as(&self.sql.lock_dead).bind(topic.as_str().as_bytes());
                let found: Vec<(i64,)> = rows(&mut transaction, lock.bind(id)).await?;
                if found.is_empty() {
                    return Ok(false);
                }
                if let Some(attributes) = put_back {
                    let put_back = sqlx::query(&self.sql.put_back)
                        .bind(attributes)
                        .bind(topic.as_str().as_bytes())
                        .bind(id);
                    step(&mut transaction, put_back).await?;
                }
                let freed = sqlx::query(&self.sql.freed)
                    .bind(topic.as_str().as_bytes())
                    .bind(id);
                step(&mut transaction, freed).await?;
                let undead = sqlx::query(&self.sql.undead)
                    .bind(topic.as_str().as_bytes())
                    .bind(id);
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
        let topic = topic.as_str().as_bytes();
        let mut history = sqlx::query_as(&self.sql.history);
        for _ in 0..3 {
            history = history.bind(topic).bind(after).bind(most);
        }
        let history = history.bind(most);
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
            .bind(topic.as_str().as_bytes())
            .bind(most);
        let rows: Vec<WaitingParts> = self.fetch(waiting).await?;
        let row = |(key, head, failures, lapses, waits, until, error): WaitingParts| WaitingRow {
            key,
            head,
            history: history(failures, lapses, waits),
            until,
            error: String::from_utf8_lossy(&error).into_owned(),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(super) async fn prune_now(
        &self,
        topic: &Topic,
        kept: Duration,
        most: u32,
    ) -> Result<u64, StoreError> {
        let aside = sqlx::query(&self.sql.prune_aside).bind(topic.as_str().as_bytes());
        self.execute(aside).await?;
        let relays = sqlx::query(&self.sql.prune_relays).bind(topic.as_str().as_bytes());
        self.execute(relays).await?;
        let prune = sqlx::query(&self.sql.prune)
            .bind(topic.as_str().as_bytes())
            .bind(micros(kept))
            .bind(most);
        self.execute(prune).await
    }
}
