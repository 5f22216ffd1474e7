//! The tables on MySQL and MariaDB.

mod lanes;
mod operations;
mod settle;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Gate, Guarded, Isolation, Lent, Loan, MigrateError, Migration, Migrations,
    Phase, StoreError, Tables,
};
use sqlx::{
    MySql, MySqlPool,
    mysql::{MySqlArguments, MySqlRow},
};

use self::statements::{AT_ONCE, Statements};
use super::{
    AsideRow, Beat, Bounds, Claimed, Held, LeaveOut, NewRow, OutboxStore, Row, Settlement, Store,
    history, micros,
};
use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
};

const STEPS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../../migrations/mysql/0001_outbox.sql"),
)];

/// How many bytes of messages go into one statement.
const MOST_AT_ONCE: usize = 1024 * 1024;

/// How many lanes a topic has: as many windows at most are under way at once.
const LANES: i16 = 64;

impl OutboxStore {
    /// The tables on MySQL 8 or MariaDB, with the default names.
    ///
    /// # Errors
    ///
    /// As [`mysql_in`](Self::mysql_in).
    pub fn mysql(pool: MySqlPool) -> Result<Self, MigrateError> {
        Self::mysql_in(pool, &Tables::default())
    }

    /// The tables on MySQL 8 or MariaDB, with names of your choice.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when a name becomes too long.
    pub fn mysql_in(pool: MySqlPool, tables: &Tables) -> Result<Self, MigrateError> {
        Ok(Self::new(MySqlStore {
            migrations: Migrations::new("outbox", STEPS, tables, Dialect::MySql)?,
            sql: Statements::new(tables)?,
            gate: Gate::sql(),
            pool,
        }))
    }
}

struct MySqlStore {
    pool: MySqlPool,
    gate: Gate,
    sql: Statements,
    migrations: Migrations,
}

type Query<'q> = sqlx::query::Query<'q, MySql, MySqlArguments>;
type QueryAs<'q, T> = sqlx::query::QueryAs<'q, MySql, T, MySqlArguments>;
type RowParts = (i16, i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

async fn step(transaction: &mut Guarded<MySql>, query: Query<'_>) -> Result<u64, StoreError> {
    let deadline = transaction.deadline();
    let done = query.execute(&mut **transaction);
    let done = deadline.run(Phase::InTransaction, done).await?;
    Ok(done.rows_affected())
}

async fn rows<T>(
    transaction: &mut Guarded<MySql>,
    query: QueryAs<'_, T>,
) -> Result<Vec<T>, StoreError>
where
    T: Send + Unpin + for<'r> sqlx::FromRow<'r, MySqlRow>,
{
    let deadline = transaction.deadline();
    let rows = query.fetch_all(&mut **transaction);
    deadline.run(Phase::InTransaction, rows).await
}

/// Whether the next rows go into one statement, which must not be longer than the server takes:
/// 16 MiB by MariaDB's default, where a message may have one.
fn many_fit(rows: &[NewRow<'_>]) -> bool {
    let size = |row: &NewRow<'_>| row.payload.len() + row.attributes.len();
    let some = rows.get(..AT_ONCE);
    some.is_some_and(|some| some.iter().map(size).sum::<usize>() <= MOST_AT_ONCE)
}

impl MySqlStore {
    /// Claims and settlements: at the default level a lock would take gaps, in which the business
    /// inserts, and a read would not see what was committed while it waited for a lock.
    async fn begin(&self, deadline: Deadline) -> Result<Guarded<MySql>, StoreError> {
        Guarded::begin_at(Isolation::ReadCommitted, &self.pool, deadline).await
    }

    /// A transaction of one statement.
    async fn execute(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.begin(deadline).await?;
            let done = step(&mut transaction, query).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    async fn fetch<T>(&self, query: QueryAs<'_, T>) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, MySqlRow>,
    {
        let run = async |deadline: Deadline| {
            let mut loan = Loan::<MySql>::acquire(&self.pool, deadline).await?;
            let rows = query.fetch_all(&mut *loan);
            let rows = deadline.run(Phase::Read, rows).await?;
            loan.give_back();
            Ok(rows)
        };
        self.gate.run(run).await
    }

    async fn fetch_one<T>(&self, query: QueryAs<'_, T>) -> Result<T, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, MySqlRow>,
    {
        let last = self.fetch(query).await?.pop();
        last.ok_or_else(|| StoreError::of_sqlx(sqlx::Error::RowNotFound, Phase::Read))
    }
}

#[async_trait]
impl Store for MySqlStore {
    fn dialect(&self) -> Dialect {
        Dialect::MySql
    }

    fn bounds(&self) -> Bounds {
        Bounds::Unknown
    }

    fn lanes(&self) -> i16 {
        LANES
    }

    async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrations.migrate(&self.pool).await
    }

    async fn check(&self) -> Result<(), MigrateError> {
        self.migrations.check(&self.pool).await
    }

    fn print(&self) -> String {
        self.migrations.print()
    }

    async fn append(&self, connection: Lent<'_>, rows: &[NewRow<'_>]) -> Result<(), StoreError> {
        let connection = connection.mysql()?;
        let mut rest = rows;
        while !rest.is_empty() {
            let (sql, size) = if many_fit(rest) {
                (&self.sql.append_many, AT_ONCE)
            } else {
                (&self.sql.append, 1)
            };
            let (these, others) = rest.split_at(size);
            rest = others;
            let mut append = sqlx::query(sql);
            for row in these {
                let (delay, not_before) = row.due_parts();
                append = append
                    .bind(row.topic.as_bytes())
                    .bind(row.lane)
                    .bind(&row.key[..])
                    .bind(delay)
                    .bind(delay)
                    .bind(not_before)
                    .bind(&row.attributes[..])
                    .bind(row.payload);
            }
            let done = append.execute(&mut *connection).await;
            done.map_err(StoreError::in_transaction)?;
        }
        Ok(())
    }

    async fn prepare(&self, topic: &Topic) -> Result<(), StoreError> {
        self.prepare_now(topic).await
    }

    async fn beat(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError> {
        self.beat_now(topic, relay, lease, held).await
    }

    async fn claim(
        &self,
        topic: &Topic,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.claim_now(topic, lease, most).await
    }

    async fn release(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError> {
        self.release_now(topic, held).await
    }

    async fn leave(&self, topic: &Topic, relay: &[u8; 16]) -> Result<(), StoreError> {
        let leave = sqlx::query(&self.sql.leave).bind(topic.as_str().as_bytes());
        self.execute(leave.bind(&relay[..])).await.map(drop)
    }

    async fn asides(
        &self,
        topic: &Topic,
        lanes: &[i16],
        most: u32,
    ) -> Result<Vec<AsideRow>, StoreError> {
        let asides = sqlx::query_as(&self.sql.asides)
            .bind(topic.as_str().as_bytes())
            .bind(numbers(lanes))
            .bind(most);
        let rows: Vec<(i16, Vec<u8>, i64, i32, i32, i32)> = self.fetch(asides).await?;
        let aside = |(lane, key, head, failures, lapses, waits)| AsideRow {
            lane,
            key,
            head,
            history: history(failures, lapses, waits),
        };
        Ok(rows.into_iter().map(aside).collect())
    }

    async fn window(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.window_now(topic, from, leave_out, per_lane, limit)
            .await
    }

    async fn alone(&self, topic: &Topic, held: Held, id: i64) -> Result<bool, StoreError> {
        let alone = sqlx::query(&self.sql.alone)
            .bind(id)
            .bind(topic.as_str().as_bytes())
            .bind(held.lane)
            .bind(held.fence.epoch())
            .bind(&held.fence.token().as_bytes()[..]);
        Ok(self.execute(alone).await? == 1)
    }

    async fn settle(&self, topic: &Topic, settlement: Settlement) -> Result<Vec<i16>, StoreError> {
        self.settle_now(topic, settlement).await
    }

    async fn counts(&self, topic: &Topic) -> Result<Counts, StoreError> {
        self.counts_now(topic).await
    }

    async fn dead(&self, topic: &Topic, after: i64, most: u32) -> Result<Vec<DeadRow>, StoreError> {
        self.dead_now(topic, after, most).await
    }

    async fn history(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<PastRow>, StoreError> {
        self.history_now(topic, after, most).await
    }

    async fn requeue(
        &self,
        topic: &Topic,
        id: i64,
        attributes: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        self.undead(topic, id, Some(attributes)).await
    }

    async fn skip(&self, topic: &Topic, id: i64) -> Result<bool, StoreError> {
        self.undead(topic, id, None).await
    }

    async fn waiting(&self, topic: &Topic, most: u32) -> Result<Vec<WaitingRow>, StoreError> {
        self.waiting_now(topic, most).await
    }

    async fn unblock(&self, topic: &Topic, lane: i16, key: &[u8]) -> Result<bool, StoreError> {
        let unblock = sqlx::query(&self.sql.unblock).bind(topic.as_str().as_bytes());
        Ok(self.execute(unblock.bind(lane).bind(key)).await? == 1)
    }

    async fn pause(&self, topic: &Topic, reason: Option<&str>) -> Result<(), StoreError> {
        let query = match reason {
            Some(reason) => sqlx::query(&self.sql.pause)
                .bind(topic.as_str().as_bytes())
                .bind(reason.as_bytes()),
            None => sqlx::query(&self.sql.resume).bind(topic.as_str().as_bytes()),
        };
        self.execute(query).await.map(drop)
    }

    async fn prune(&self, topic: &Topic, kept: Duration, most: u32) -> Result<u64, StoreError> {
        self.prune_now(topic, kept, most).await
    }

    async fn take(
        &self,
        connection: Lent<'_>,
        consumer: &[u8],
        message: &[u8],
    ) -> Result<bool, StoreError> {
        let connection = connection.mysql()?;
        let take = sqlx::query(&self.sql.take).bind(consumer).bind(message);
        let done = take.execute(connection).await;
        let done = done.map_err(StoreError::in_transaction)?;
        Ok(done.rows_affected() == 1)
    }

    async fn was_taken(&self, consumer: &[u8], message: &[u8]) -> Result<bool, StoreError> {
        let was_taken = sqlx::query_as(&self.sql.was_taken);
        let was_taken = was_taken.bind(consumer).bind(message);
        let (found,): (i64,) = self.fetch_one(was_taken).await?;
        Ok(found > 0)
    }

    async fn prune_inbox(
        &self,
        consumer: &[u8],
        kept: Duration,
        most: u32,
    ) -> Result<u64, StoreError> {
        let prune = sqlx::query(&self.sql.prune_inbox)
            .bind(consumer)
            .bind(micros(kept))
            .bind(most);
        self.execute(prune).await
    }
}

/// As JSON: one bound value, however many there are.
fn numbers<T: serde::Serialize>(numbers: &[T]) -> String {
    // Numbers cannot fail to be written.
    serde_json::to_string(numbers).unwrap_or_default()
}
