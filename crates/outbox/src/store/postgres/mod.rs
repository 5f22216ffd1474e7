//! The tables on PostgreSQL.

mod after;
mod append;
mod hints;
mod line;
mod operations;
mod ring;
mod settle;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Gate, Lent, Loan, MigrateError, Migration, Migrations, Phase, StoreError,
    Tables, Token,
};
use sqlx::{
    PgPool, Postgres,
    postgres::{PgArguments, PgRow},
};

pub use self::after::AppendAfter;
use self::{
    line::{ClaimParts, claimed},
    ring::RingStatements,
    statements::Statements,
};
use super::{
    AsideRow, Beat, Bounds, Claimed, Heard, Held, LeaveOut, NewRow, OutboxStore, Reach, Row,
    Settlement, Sighting, Store, Truncated, history, micros,
};
use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
};

const STEPS: &[Migration] = &[
    Migration::new(
        1,
        include_str!("../../../migrations/postgres/0001_outbox.sql"),
    ),
    Migration::new(
        2,
        include_str!("../../../migrations/postgres/0002_history.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/postgres/0003_ring.sql"),
    ),
];

/// How many lanes a topic has: as many windows at most are under way at once.
const LANES: i16 = 64;

impl OutboxStore {
    /// The tables on PostgreSQL, with the default names.
    ///
    /// # Errors
    ///
    /// As [`postgres_in`](Self::postgres_in).
    pub fn postgres(pool: PgPool) -> Result<Self, MigrateError> {
        Self::postgres_in(pool, &Tables::default())
    }

    /// The tables on PostgreSQL, with names of your choice.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when a name becomes too long.
    pub fn postgres_in(pool: PgPool, tables: &Tables) -> Result<Self, MigrateError> {
        Ok(Self::new(PostgresStore {
            migrations: Migrations::new("outbox", STEPS, tables, Dialect::Postgres)?,
            sql: Statements::new(tables)?,
            ring: RingStatements::new(tables)?,
            channel: hints::channel(tables),
            gate: Gate::sql(),
            pool,
        }))
    }
}

struct PostgresStore {
    pool: PgPool,
    gate: Gate,
    sql: Statements,
    ring: RingStatements,
    channel: String,
    migrations: Migrations,
}

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;
type QueryAs<'q, T> = sqlx::query::QueryAs<'q, Postgres, T, PgArguments>;

type RowParts = (i16, i64, Vec<u8>, i64, Option<i64>, Vec<u8>, Vec<u8>);

fn row((lane, id, key, created_at, early, attributes, payload): RowParts) -> Row {
    Row {
        lane,
        id,
        key,
        created_at,
        early,
        attributes,
        payload,
        stream: false,
        held: false,
    }
}

/// Lanes, epochs and tokens, as arrays.
fn fences(held: &[Held]) -> (Vec<i16>, Vec<i64>, Vec<&[u8]>) {
    let lanes = held.iter().map(|it| it.lane).collect();
    let epochs = held.iter().map(|it| it.fence.epoch()).collect();
    let tokens = held.iter().map(|it| &it.fence.token().as_bytes()[..]);
    (lanes, epochs, tokens.collect())
}

impl PostgresStore {
    /// A statement that is a commit by itself.
    async fn execute(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let run = async |deadline: Deadline| {
            let mut loan = Loan::<Postgres>::acquire(&self.pool, deadline).await?;
            let done = query.execute(&mut *loan);
            let done = deadline.run(Phase::Statement, done).await?;
            loan.give_back();
            Ok(done.rows_affected())
        };
        self.gate.run(run).await
    }

    async fn fetch<T>(&self, phase: Phase, query: QueryAs<'_, T>) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let run = async |deadline: Deadline| {
            let mut loan = Loan::<Postgres>::acquire(&self.pool, deadline).await?;
            let rows = query.fetch_all(&mut *loan);
            let rows = deadline.run(phase, rows).await?;
            loan.give_back();
            Ok(rows)
        };
        self.gate.run(run).await
    }

    async fn fetch_one<T>(&self, phase: Phase, query: QueryAs<'_, T>) -> Result<T, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut rows = self.fetch(phase, query).await?;
        let last = rows.pop();
        last.ok_or_else(|| StoreError::of_sqlx(sqlx::Error::RowNotFound, phase))
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn bounds(&self) -> Bounds {
        Bounds::Watched
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
        self.append_now(connection.postgres()?, rows).await
    }

    fn insert_into(&self) -> Option<&str> {
        Some(self.sql.insert_into.as_str())
    }

    fn insert_into_stream(&self) -> Option<(&str, &str)> {
        Some((self.ring.insert_into.as_str(), self.ring.opened.as_str()))
    }

    async fn notify(&self, sender: &str) -> Result<(), StoreError> {
        self.notify_now(sender).await
    }

    async fn listen(&self, heard: &(dyn Fn(Heard) + Sync)) -> Result<(), StoreError> {
        match self.listen_now(heard).await? {}
    }

    async fn prepare(&self, topic: &Topic) -> Result<(), StoreError> {
        let prepared = sqlx::query_as(&self.sql.prepared).bind(topic.as_str());
        let (lanes,): (i64,) = self.fetch_one(Phase::Read, prepared).await?;
        if lanes < i64::from(LANES) {
            let prepare = sqlx::query(&self.sql.prepare).bind(topic.as_str());
            self.execute(prepare.bind(i32::from(LANES))).await?;
        }
        Ok(())
    }

    async fn beat(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError> {
        let (lanes, epochs, tokens) = fences(held);
        let beat = sqlx::query_as(&self.sql.beat)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(epochs)
            .bind(tokens)
            .bind(micros(lease))
            .bind(&relay[..]);
        let beat: (Vec<i16>, i64, bool) = self.fetch_one(Phase::Statement, beat).await?;
        Ok(Beat {
            kept: beat.0,
            relays: u32::try_from(beat.1).unwrap_or(u32::MAX),
            paused: beat.2,
        })
    }

    async fn claim(
        &self,
        topic: &Topic,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let token = Token::random();
        let claim = sqlx::query_as(&self.sql.claim)
            .bind(topic.as_str())
            .bind(i64::from(most))
            .bind(&token.as_bytes()[..])
            .bind(micros(lease));
        let rows: Vec<ClaimParts> = self.fetch(Phase::Statement, claim).await?;
        Ok(claimed(rows, token))
    }

    async fn claim_all(&self, topic: &Topic, lease: Duration) -> Result<Vec<Claimed>, StoreError> {
        self.claim_all_now(topic, lease).await
    }

    async fn release(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError> {
        let (lanes, epochs, tokens) = fences(held);
        let release = sqlx::query(&self.sql.release)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(epochs)
            .bind(tokens);
        self.execute(release).await.map(drop)
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
            .bind(lanes)
            .bind(i64::from(most));
        let rows: Vec<(i16, Vec<u8>, i64, i32, i32, i32)> = self.fetch(Phase::Read, asides).await?;
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
        let sql = match leave_out {
            LeaveOut::Nothing => &self.sql.window,
            LeaveOut::Waiting => &self.sql.window_waiting,
            LeaveOut::Aside => &self.sql.window_aside,
        };
        let (lanes, ids): (Vec<i16>, Vec<i64>) = from.iter().copied().unzip();
        let window = sqlx::query_as(sql)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(ids)
            .bind(i64::from(per_lane))
            .bind(i64::from(limit));
        let rows: Vec<RowParts> = self.fetch(Phase::Read, window).await?;
        Ok(rows.into_iter().map(row).collect())
    }

    async fn line(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.line_now(topic, from, limit).await
    }

    async fn ring(&self, topic: &Topic) -> Result<bool, StoreError> {
        self.ring_now(topic).await
    }

    async fn positions(&self, topic: &Topic, lanes: &[i16]) -> Result<Vec<(i16, i64)>, StoreError> {
        self.positions_now(topic, lanes).await
    }

    async fn ring_window(
        &self,
        topic: &Topic,
        from: &[Reach],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.ring_window_now(topic, from, leave_out, per_lane, limit)
            .await
    }

    async fn truncate(&self) -> Result<Truncated, StoreError> {
        self.truncate_now().await
    }

    async fn sight(&self) -> Result<Sighting, StoreError> {
        let sight = sqlx::query_as(&self.sql.sight);
        let rows: Vec<(bool, Option<i64>, Vec<String>)> = self.fetch(Phase::Read, sight).await?;
        let Some((in_order, given, writers)) = rows.into_iter().next() else {
            return Ok(Sighting::default());
        };
        Ok(Sighting {
            in_order,
            given,
            prepared: writers.iter().any(|writer| writer.starts_with("-1/")),
            writers,
        })
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
        let requeue = sqlx::query(&self.sql.requeue).bind(topic.as_str()).bind(id);
        Ok(self.execute(requeue.bind(attributes)).await? == 1)
    }

    async fn skip(&self, topic: &Topic, id: i64) -> Result<bool, StoreError> {
        let skip = sqlx::query_as(&self.sql.skip).bind(topic.as_str()).bind(id);
        let skipped: Vec<(i64,)> = self.fetch(Phase::Statement, skip).await?;
        Ok(skipped.len() == 1)
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
        let connection = connection.postgres()?;
        let take = sqlx::query(&self.sql.take).bind(consumer).bind(message);
        let done = take.execute(connection).await;
        let done = done.map_err(StoreError::in_transaction)?;
        Ok(done.rows_affected() == 1)
    }

    async fn was_taken(&self, consumer: &[u8], message: &[u8]) -> Result<bool, StoreError> {
        let was_taken = sqlx::query_as(&self.sql.was_taken);
        let was_taken = was_taken.bind(consumer).bind(message);
        let (found,): (i64,) = self.fetch_one(Phase::Read, was_taken).await?;
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
            .bind(i64::from(most));
        self.execute(prune).await
    }
}
