//! The tables on SQLite: every write is one turn of the file's writer.

mod lanes;
mod operations;
mod settle;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Gate, Guarded, Lent, Loan, Micros, MigrateError, Migration, Migrations,
    Phase, StoreError, Tables, sqlite::Writer,
};
use sqlx::{
    Sqlite,
    sqlite::{SqliteArguments, SqliteRow},
};

use self::statements::Statements;
use super::{
    AsideRow, Beat, Bounds, Claimed, Held, LeaveOut, NewRow, OutboxStore, Row, Settlement, Store,
    history,
};
use crate::{
    message::{Due, Topic},
    operations::{Counts, DeadRow, PastRow, WaitingRow},
};

const STEPS: &[Migration] = &[
    Migration::new(
        1,
        include_str!("../../../migrations/sqlite/0001_outbox.sql"),
    ),
    Migration::new(
        2,
        include_str!("../../../migrations/sqlite/0002_history.sql"),
    ),
];

/// Fewer than elsewhere: writes take turns anyway, and each lane is a read of its own.
const LANES: i16 = 16;

impl OutboxStore {
    /// The tables on SQLite, with the default names. Take the writer that all who write to the
    /// file share, or they wait for each other by polling.
    ///
    /// # Errors
    ///
    /// As [`sqlite_with`](Self::sqlite_with).
    pub fn sqlite(writer: Writer) -> Result<Self, MigrateError> {
        Self::sqlite_with(writer, &Tables::default())
    }

    /// The tables on SQLite, with a prefix of your choice.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when a name becomes too long or has a schema.
    pub fn sqlite_with(writer: Writer, tables: &Tables) -> Result<Self, MigrateError> {
        Ok(Self::new(SqliteStore {
            migrations: Migrations::new("outbox", STEPS, tables, Dialect::Sqlite)?,
            sql: Statements::new(tables)?,
            gate: Gate::sql(),
            writer,
        }))
    }
}

struct SqliteStore {
    writer: Writer,
    gate: Gate,
    sql: Statements,
    migrations: Migrations,
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;
type QueryAs<'q, T> = sqlx::query::QueryAs<'q, Sqlite, T, SqliteArguments>;
type RowParts = (i16, i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

fn now() -> i64 {
    Micros::of_host().get()
}

/// So long from now.
fn later(wait: Duration) -> i64 {
    (Micros::of_host() + wait).get()
}

/// So long ago.
fn ago(age: Duration) -> i64 {
    (Micros::of_host() - age).get()
}

async fn step(transaction: &mut Guarded<Sqlite>, query: Query<'_>) -> Result<u64, StoreError> {
    let deadline = transaction.deadline();
    let done = query.execute(&mut **transaction);
    let done = deadline.run(Phase::InTransaction, done).await?;
    Ok(done.rows_affected())
}

async fn rows<T>(
    transaction: &mut Guarded<Sqlite>,
    query: QueryAs<'_, T>,
) -> Result<Vec<T>, StoreError>
where
    T: Send + Unpin + for<'r> sqlx::FromRow<'r, SqliteRow>,
{
    let deadline = transaction.deadline();
    let rows = query.fetch_all(&mut **transaction);
    deadline.run(Phase::InTransaction, rows).await
}

impl SqliteStore {
    /// A transaction of one statement.
    async fn execute(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let done = step(&mut transaction, query).await;
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    async fn fetch<T>(&self, query: QueryAs<'_, T>) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, SqliteRow>,
    {
        let run = async |deadline: Deadline| {
            let mut loan = Loan::<Sqlite>::acquire(self.writer.pool(), deadline).await?;
            let rows = query.fetch_all(&mut *loan);
            let rows = deadline.run(Phase::Read, rows).await?;
            loan.give_back();
            Ok(rows)
        };
        self.gate.run(run).await
    }

    async fn fetch_one<T>(&self, query: QueryAs<'_, T>) -> Result<T, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, SqliteRow>,
    {
        let last = self.fetch(query).await?.pop();
        last.ok_or_else(|| StoreError::of_sqlx(sqlx::Error::RowNotFound, Phase::Read))
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn bounds(&self) -> Bounds {
        Bounds::InOrder
    }

    fn lanes(&self) -> i16 {
        LANES
    }

    async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrations.migrate(self.writer.pool()).await
    }

    async fn check(&self) -> Result<(), MigrateError> {
        self.migrations.check(self.writer.pool()).await
    }

    fn print(&self) -> String {
        self.migrations.print()
    }

    async fn append(&self, connection: Lent<'_>, rows: &[NewRow<'_>]) -> Result<(), StoreError> {
        let connection = connection.sqlite()?;
        let many = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let last = sqlx::query_scalar(&self.sql.next).bind(many);
        let last: i64 = last
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let now = now();
        for (row, id) in rows.iter().zip(last - many + 1..) {
            let not_before = match row.due {
                Due::Now => 0,
                Due::After(delay) => (Micros::new(now) + delay).get(),
                Due::At(at) => at.get(),
            };
            let append = sqlx::query(&self.sql.append)
                .bind(row.topic)
                .bind(row.lane)
                .bind(id)
                .bind(&row.key[..])
                .bind(now)
                .bind(not_before)
                .bind(&row.attributes[..])
                .bind(row.payload);
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
        let leave = sqlx::query(&self.sql.leave).bind(topic.as_str());
        self.execute(leave.bind(&relay[..])).await.map(drop)
    }

    async fn asides(
        &self,
        topic: &Topic,
        lanes: &[i16],
        most: u32,
    ) -> Result<Vec<AsideRow>, StoreError> {
        let asides = sqlx::query_as(&self.sql.asides)
            .bind(topic.as_str())
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
            .bind(topic.as_str())
            .bind(held.lane)
            .bind(held.fence.epoch())
            .bind(&held.fence.token().as_bytes()[..])
            .bind(id);
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
        let unblock = sqlx::query(&self.sql.unblock).bind(topic.as_str());
        Ok(self.execute(unblock.bind(lane).bind(key)).await? == 1)
    }

    async fn pause(&self, topic: &Topic, reason: Option<&str>) -> Result<(), StoreError> {
        let query = match reason {
            Some(reason) => sqlx::query(&self.sql.pause)
                .bind(topic.as_str())
                .bind(now())
                .bind(reason),
            None => sqlx::query(&self.sql.resume).bind(topic.as_str()),
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
        let connection = connection.sqlite()?;
        let take = sqlx::query(&self.sql.take)
            .bind(consumer)
            .bind(message)
            .bind(now());
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
            .bind(ago(kept))
            .bind(most);
        self.execute(prune).await
    }
}

/// As JSON: one bound value, however many there are.
fn numbers<T: serde::Serialize>(numbers: &[T]) -> String {
    // Numbers cannot fail to be written.
    serde_json::to_string(numbers).unwrap_or_default()
}
