//! Writing what became of messages, in one commit under the lanes' fences.

use buttress_store::{Deadline, Guarded, Micros, StoreError};
use sqlx::Sqlite;

use super::{SqliteStore, now, numbers, rows, step};
use crate::{
    message::Topic,
    policy::AfterDeath,
    store::{Died, SetAside, Settlement, Until, stored},
};

impl SqliteStore {
    pub(super) async fn settle_now(
        &self,
        topic: &Topic,
        mut settlement: Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let done = self.write(&mut transaction, topic, &mut settlement).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    async fn write(
        &self,
        transaction: &mut Guarded<Sqlite>,
        topic: &Topic,
        settlement: &mut Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let mut mine = Vec::with_capacity(settlement.held.len());
        for held in &settlement.held {
            let is_mine = sqlx::query_as(&self.sql.mine)
                .bind(topic.as_str())
                .bind(held.lane)
                .bind(held.fence.epoch())
                .bind(&held.fence.token().as_bytes()[..]);
            let is_mine: Vec<(i64,)> = rows(transaction, is_mine).await?;
            if is_mine == [(1,)] {
                mine.push(held.lane);
            }
        }
        settlement.keep_to(&mine);
        self.delivered(transaction, topic, settlement).await?;
        for died in &settlement.died {
            self.bury(transaction, topic, died).await?;
        }
        for (lane, key) in &settlement.forget {
            let forget = sqlx::query(&self.sql.forget)
                .bind(topic.as_str())
                .bind(*lane)
                .bind(&key[..]);
            step(transaction, forget).await?;
        }
        for aside in &settlement.aside {
            self.put_aside(transaction, topic, aside).await?;
        }
        for lane in &settlement.not_alone {
            let clear = sqlx::query(&self.sql.not_alone).bind(topic.as_str());
            step(transaction, clear.bind(*lane)).await?;
        }
        Ok(mine)
    }

    async fn delivered(
        &self,
        transaction: &mut Guarded<Sqlite>,
        topic: &Topic,
        settlement: &Settlement,
    ) -> Result<(), StoreError> {
        for held in &settlement.held {
            let of_lane = settlement.delivered.iter();
            let of_lane = of_lane.filter(|(lane, _)| *lane == held.lane);
            let ids: Vec<i64> = of_lane.map(|(_, id)| *id).collect();
            if ids.is_empty() {
                continue;
            }
            let ids = numbers(&ids);
            if settlement.keep {
                let keep = sqlx::query(&self.sql.keep)
                    .bind(topic.as_str())
                    .bind(held.lane)
                    .bind(&ids)
                    .bind(now());
                step(transaction, keep).await?;
            }
            let delete = sqlx::query(&self.sql.delete)
                .bind(topic.as_str())
                .bind(held.lane)
                .bind(&ids);
            step(transaction, delete).await?;
        }
        Ok(())
    }

    async fn bury(
        &self,
        transaction: &mut Guarded<Sqlite>,
        topic: &Topic,
        died: &Died,
    ) -> Result<(), StoreError> {
        let bury = if died.then == AfterDeath::Requeue {
            let next = sqlx::query_as(&self.sql.next).bind(1_i64);
            let next: Vec<(i64,)> = rows(transaction, next).await?;
            sqlx::query(&self.sql.to_the_end)
                .bind(topic.as_str())
                .bind(died.lane)
                .bind(died.id)
                .bind(next.first().map(|next| next.0))
        } else {
            sqlx::query(&self.sql.bury)
                .bind(topic.as_str())
                .bind(died.lane)
                .bind(died.id)
                .bind(stored(died.history.failures))
                .bind(stored(died.history.lapses))
                .bind(now())
                .bind(&died.error)
        };
        step(transaction, bury).await?;
        let delete = sqlx::query(&self.sql.delete_one)
            .bind(topic.as_str())
            .bind(died.lane)
            .bind(died.id);
        step(transaction, delete).await.map(drop)
    }

    async fn put_aside(
        &self,
        transaction: &mut Guarded<Sqlite>,
        topic: &Topic,
        aside: &SetAside,
    ) -> Result<(), StoreError> {
        let until = match aside.until {
            Until::After(wait) => (Micros::new(now()) + wait).get(),
            Until::At(at) => at,
            Until::Told => i64::MAX,
        };
        let put = sqlx::query(&self.sql.set_aside)
            .bind(topic.as_str())
            .bind(aside.lane)
            .bind(&aside.key[..])
            .bind(aside.head)
            .bind(stored(aside.history.failures))
            .bind(stored(aside.history.lapses))
            .bind(stored(aside.history.waits))
            .bind(until)
            .bind(&aside.error);
        step(transaction, put).await.map(drop)
    }
}
