//! Writing what became of messages, in one commit under the lanes' fences.

use buttress_store::{Deadline, Guarded, Isolation, Phase, StoreError};
use sqlx::Postgres;

use super::{PostgresStore, fences};
use crate::{
    message::Topic,
    policy::AfterDeath,
    store::{Died, SetAside, Settlement, stored},
};

impl PostgresStore {
    pub(super) async fn settle_now(
        &self,
        topic: &Topic,
        mut settlement: Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        if settlement.is_stream_alone()
            && let Some(mine) = self.pass(topic, &settlement).await?
        {
            return Ok(mine);
        }
        if settlement.is_plain() && settlement.passed.is_empty() {
            return self.settle_plainly(topic, &settlement).await;
        }
        let run = async |deadline: Deadline| {
            let at = Isolation::ReadCommitted;
            let mut transaction = Guarded::begin_at(at, &self.pool, deadline).await?;
            let done = self.write(&mut transaction, topic, &mut settlement).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    /// One statement, one round trip.
    async fn settle_plainly(
        &self,
        topic: &Topic,
        settlement: &Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let sql = if settlement.keep {
            &self.sql.settle_keep
        } else {
            &self.sql.settle
        };
        let (lanes, epochs, tokens) = fences(&settlement.held);
        let (of, ids): (Vec<i16>, Vec<i64>) = settlement.delivered.iter().copied().unzip();
        let settle = sqlx::query_as(sql)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(epochs)
            .bind(tokens)
            .bind(of)
            .bind(ids);
        let mine: Vec<(i16,)> = self.fetch(Phase::Statement, settle).await?;
        Ok(mine.into_iter().map(|(lane,)| lane).collect())
    }

    async fn write(
        &self,
        transaction: &mut Guarded<Postgres>,
        topic: &Topic,
        settlement: &mut Settlement,
    ) -> Result<Vec<i16>, StoreError> {
        let deadline = transaction.deadline();
        let work = Phase::InTransaction;
        let (lanes, epochs, tokens) = fences(&settlement.held);
        let mine = sqlx::query_as(&self.sql.mine)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(epochs)
            .bind(tokens)
            .fetch_all(&mut **transaction);
        let mine: Vec<(i16,)> = deadline.run(work, mine).await?;
        let mine: Vec<i16> = mine.into_iter().map(|(lane,)| lane).collect();
        settlement.keep_to(&mine);
        if !settlement.passed.is_empty() {
            // First, so that what is moved is there for what is said about it below.
            self.pass_and_move(transaction, topic, settlement).await?;
        }
        if !settlement.delivered.is_empty() {
            let sql = if settlement.keep {
                &self.sql.settle_keep
            } else {
                &self.sql.settle
            };
            let (lanes, epochs, tokens) = fences(&settlement.held);
            let (of, ids): (Vec<i16>, Vec<i64>) = settlement.delivered.iter().copied().unzip();
            let delete = sqlx::query(sql)
                .bind(topic.as_str())
                .bind(lanes)
                .bind(epochs)
                .bind(tokens)
                .bind(of)
                .bind(ids)
                .execute(&mut **transaction);
            deadline.run(work, delete).await?;
        }
        for died in &settlement.died {
            self.bury(transaction, topic, died).await?;
        }
        if !settlement.forget.is_empty() {
            let lanes: Vec<i16> = settlement.forget.iter().map(|(lane, _)| *lane).collect();
            let keys: Vec<&[u8]> = settlement.forget.iter().map(|(_, key)| &key[..]).collect();
            let forget = sqlx::query(&self.sql.forget)
                .bind(topic.as_str())
                .bind(lanes)
                .bind(keys)
                .execute(&mut **transaction);
            deadline.run(work, forget).await?;
        }
        if !settlement.aside.is_empty() {
            self.put_aside(transaction, topic, &settlement.aside)
                .await?;
        }
        if !settlement.not_alone.is_empty() {
            let clear = sqlx::query(&self.sql.not_alone)
                .bind(topic.as_str())
                .bind(&settlement.not_alone[..])
                .execute(&mut **transaction);
            deadline.run(work, clear).await?;
        }
        Ok(mine)
    }

    async fn bury(
        &self,
        transaction: &mut Guarded<Postgres>,
        topic: &Topic,
        died: &Died,
    ) -> Result<(), StoreError> {
        let deadline = transaction.deadline();
        let query = if died.then == AfterDeath::Requeue {
            sqlx::query(&self.sql.to_the_end)
                .bind(topic.as_str())
                .bind(died.lane)
                .bind(died.id)
        } else {
            sqlx::query(&self.sql.bury)
                .bind(topic.as_str())
                .bind(died.lane)
                .bind(died.id)
                .bind(stored(died.history.failures))
                .bind(stored(died.history.lapses))
                .bind(&died.error)
        };
        let done = query.execute(&mut **transaction);
        deadline.run(Phase::InTransaction, done).await.map(drop)
    }

    async fn put_aside(
        &self,
        transaction: &mut Guarded<Postgres>,
        topic: &Topic,
        aside: &[SetAside],
    ) -> Result<(), StoreError> {
        let deadline = transaction.deadline();
        let until: Vec<(i64, Option<i64>)> = aside.iter().map(|it| it.until.parts()).collect();
        let (waits, times): (Vec<_>, Vec<_>) = until.into_iter().unzip();
        let failures = aside.iter().map(|it| stored(it.history.failures));
        let lapses = aside.iter().map(|it| stored(it.history.lapses));
        let put_off = aside.iter().map(|it| stored(it.history.waits));
        let query = sqlx::query(&self.sql.set_aside)
            .bind(topic.as_str())
            .bind(aside.iter().map(|it| it.lane).collect::<Vec<_>>())
            .bind(aside.iter().map(|it| &it.key[..]).collect::<Vec<_>>())
            .bind(aside.iter().map(|it| it.head).collect::<Vec<_>>())
            .bind(failures.collect::<Vec<_>>())
            .bind(lapses.collect::<Vec<_>>())
            .bind(put_off.collect::<Vec<_>>())
            .bind(waits)
            .bind(times)
            .bind(aside.iter().map(|it| &it.error[..]).collect::<Vec<_>>());
        let done = query.execute(&mut **transaction);
        deadline.run(Phase::InTransaction, done).await.map(drop)
    }
}

impl Settlement {
    /// Nothing but the stream.
    fn is_stream_alone(&self) -> bool {
        self.is_plain() && self.delivered.is_empty() && !self.keep && !self.passed.is_empty()
    }

    /// Nothing but deliveries, which is the rule.
    fn is_plain(&self) -> bool {
        self.forget.is_empty()
            && self.aside.is_empty()
            && self.died.is_empty()
            && self.not_alone.is_empty()
    }
}
