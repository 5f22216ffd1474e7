//! Writing what became of messages, in one commit under the lanes' fences.

use buttress_store::{Deadline, Guarded, StoreError};
use sqlx::MySql;

use super::{MySqlStore, numbers, step};
use crate::{
    message::Topic,
    policy::AfterDeath,
    store::{Died, SetAside, Settlement, stored},
};

impl MySqlStore {
    pub(super) async fn settle_now(
        &self,
        topic: &Topic,
        mut settlement: Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.begin(deadline).await?;
            let done = self.write(&mut transaction, topic, &mut settlement).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    async fn write(
        &self,
        transaction: &mut Guarded<MySql>,
        topic: &Topic,
        settlement: &mut Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let mine = self.mine(transaction, topic, &settlement.held).await?;
        settlement.keep_to(&mine);
        self.delivered(transaction, topic, settlement).await?;
        for died in &settlement.died {
            self.bury(transaction, topic, died).await?;
        }
        for (lane, key) in &settlement.forget {
            let forget = sqlx::query(&self.sql.forget)
                .bind(topic.as_str().as_bytes())
                .bind(*lane)
                .bind(&key[..]);
            step(transaction, forget).await?;
        }
        for aside in &settlement.aside {
            self.put_aside(transaction, topic, aside).await?;
        }
        for lane in &settlement.not_alone {
            let clear = sqlx::query(&self.sql.not_alone).bind(topic.as_str().as_bytes());
            step(transaction, clear.bind(*lane)).await?;
        }
        Ok(mine)
    }

    async fn delivered(
        &self,
        transaction: &mut Guarded<MySql>,
        topic: &Topic,
        settlement: &Settlement,
    ) -> Result<(), StoreError> {
        if settlement.delivered.is_empty() {
            return Ok(());
        }
        for held in settlement.held.iter().filter(|_| settlement.keep) {
            let of_lane = settlement.delivered.iter();
            let of_lane = of_lane.filter(|(lane, _)| *lane == held.lane);
            let ids: Vec<i64> = of_lane.map(|(_, id)| *id).collect();
            let keep = sqlx::query(&self.sql.keep)
                .bind(topic.as_str().as_bytes())
                .bind(held.lane)
                .bind(numbers(&ids));
            step(transaction, keep).await?;
        }
        let delete = sqlx::query(&self.sql.delete)
            .bind(numbers(&settlement.delivered))
            .bind(topic.as_str().as_bytes());
        step(transaction, delete).await.map(drop)
    }

    async fn bury(
        &self,
        transaction: &mut Guarded<MySql>,
        topic: &Topic,
        died: &Died,
    ) -> Result<(), StoreError> {
        let bury = if died.then == AfterDeath::Requeue {
            sqlx::query(&self.sql.to_the_end)
        } else {
            sqlx::query(&self.sql.bury)
                .bind(stored(died.history.failures))
                .bind(stored(died.history.lapses))
                .bind(died.error.as_bytes())
        };
        let bury = bury
            .bind(topic.as_str().as_bytes())
            .bind(died.lane)
            .bind(died.id);
        step(transaction, bury).await?;
        let delete = sqlx::query(&self.sql.delete_one)
            .bind(topic.as_str().as_bytes())
            .bind(died.lane)
            .bind(died.id);
        step(transaction, delete).await.map(drop)
    }

    async fn put_aside(
        &self,
        transaction: &mut Guarded<MySql>,
        topic: &Topic,
        aside: &SetAside,
    ) -> Result<(), StoreError> {
        let (wait, at) = aside.until.parts();
        let put = sqlx::query(&self.sql.set_aside)
            .bind(topic.as_str().as_bytes())
            .bind(aside.lane)
            .bind(&aside.key[..])
            .bind(aside.head)
            .bind(stored(aside.history.failures))
            .bind(stored(aside.history.lapses))
            .bind(stored(aside.history.waits))
            .bind(at)
            .bind(wait)
            .bind(aside.error.as_bytes());
        step(transaction, put).await.map(drop)
    }
}
