//! Sagas on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Lent, Loan, MigrateError, Migration, Migrations, NameError,
    Phase, Statement, StoreError, Tables,
};
use sqlx::{PgConnection, PgPool};

use super::{
    Alone, Ask, Census, Claimed, Filter, Hand, NewSaga, Record, Started, Store, Write,
    rows::{self, CensusRow, LineRow, SagaRow},
};
use crate::SagaId;

const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/postgres/0001_saga.sql"),
)];

/// Sagas on PostgreSQL, on a pool of yours.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    gate: Gate,
    migrations: Migrations,
    insert: Statement,
    rival: Statement,
    claim: Statement,
    claim_lapsed: Statement,
    lines: Statement,
    extend: Statement,
    append: Statement,
    release: Statement,
    read: Statement,
    list: Statement,
    census: Statement,
    prune: Statement,
}

/// The server's clock. Statements are literals, so it is a macro.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! columns {
    ($of:literal) => {
        concat!(
            $of,
            "id, ",
            $of,
            "name, ",
            $of,
            "version, ",
            $of,
            "shape, ",
            $of,
            "business_key, ",
            $of,
            "input, ",
            $of,
            "state, ",
            $of,
            "reason, ",
            $of,
            "due_at, ",
            $of,
            "epoch, (",
            $of,
            "token IS NOT NULL)::int::bigint, ",
            $of,
            "lapses, ",
            $of,
            "entries, ",
            $of,
            "created_at, ",
            $of,
            "ended_at, ",
            now!()
        )
    };
}

/// What a write does to the saga's row. A claim's holder says which claim it is.
macro_rules! move_saga {
    () => {
        concat!(
            "UPDATE {schema}{prefix}saga SET entries = entries + $5, state = $6, reason = $7, ",
            "epoch = CASE WHEN $2 THEN epoch ELSE epoch + 1 END, ",
            "token = CASE WHEN $8 OR $6 >= 2 OR NOT $2 THEN NULL ELSE token END, ",
            "due_at = CASE WHEN $8 THEN ",
            now!(),
            " + $9 ELSE due_at END, ",
            "alone = alone AND NOT $10, lapses = CASE WHEN $10 THEN 0 ELSE lapses END, ",
            "running_key = CASE WHEN $6 IN (2, 3) THEN NULL ELSE running_key END, ",
            "ended_at = CASE WHEN $6 IN (2, 3) THEN ",
            now!(),
            " ELSE ended_at END ",
            "WHERE id = $1 AND entries = $11 AND (NOT $2 OR (epoch = $3 AND token = $4))"
        )
    };
}

impl PostgresStore {
    /// Sagas in the default tables, `buttress_saga` and `buttress_saga_journal`.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(pool: PgPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// Sagas in tables of other names.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when an identifier becomes too long.
    pub fn with_tables(pool: PgPool, tables: &Tables) -> Result<Self, MigrateError> {
        let migrations = Migrations::new("saga", MIGRATIONS, tables, Dialect::Postgres)?;
        Ok(Self::rendered(pool, migrations, tables)?)
    }

    fn rendered(pool: PgPool, migrations: Migrations, tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Postgres);
        Ok(Self {
            pool,
            gate: Gate::sql(),
            migrations,
            insert: render(concat!(
                "INSERT INTO {schema}{prefix}saga (id, name, version, shape, business_key, ",
                "running_key, input, state, due_at, created_at) ",
                "VALUES ($1, $2, $3, $4, $5, $5, $6, 0, ",
                now!(),
                ", ",
                now!(),
                ") ",
                "ON CONFLICT DO NOTHING"
            ))?,
            rival: render(concat!(
                "SELECT id FROM {schema}{prefix}saga WHERE id = $1 OR (name = $2 AND running_key = $3) ",
                "ORDER BY id = $1 DESC LIMIT 1"
            ))?,
            claim: render(concat!(
                "WITH due AS MATERIALIZED (SELECT id AS due_id FROM {schema}{prefix}saga ",
                "WHERE name = $1 AND version = $2 AND shape = $3 AND state < 2 AND token IS NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) ",
                "UPDATE {schema}{prefix}saga AS s SET epoch = epoch + 1, token = $5, alone = false, ",
                "due_at = ",
                now!(),
                " + $6 FROM due WHERE s.id = due_id RETURNING ",
                columns!("s.")
            ))?,
            claim_lapsed: render(concat!(
                "WITH due AS MATERIALIZED (SELECT id AS due_id FROM {schema}{prefix}saga ",
                "WHERE name = $1 AND version = $2 AND shape = $3 AND state < 2 AND token IS NOT NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) ",
                "UPDATE {schema}{prefix}saga AS s SET epoch = epoch + 1, token = $5, ",
                "lapses = lapses + alone::int, alone = $7, ",
                "due_at = ",
                now!(),
                " + $6 FROM due WHERE s.id = due_id RETURNING ",
                columns!("s.")
            ))?,
            lines: render(
                "SELECT saga_id, at, epoch, entry FROM {schema}{prefix}saga_journal WHERE saga_id = ANY($1) ORDER BY saga_id, seq",
            )?,
            extend: render(concat!(
                "UPDATE {schema}{prefix}saga SET due_at = ",
                now!(),
                " + $4 WHERE id = $1 AND epoch = $2 AND token = $3"
            ))?,
            append: render(concat!(
                "WITH moved AS (",
                move_saga!(),
                " RETURNING id, epoch) ",
                "INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT moved.id, $11 + line.place - 1, ",
                now!(),
                ", moved.epoch, line.entry ",
                "FROM moved, unnest($12::bytea[]) WITH ORDINALITY AS line (entry, place)"
            ))?,
            release: render(move_saga!())?,
            read: render(concat!(
                "SELECT ",
                columns!(""),
                " FROM {schema}{prefix}saga WHERE id = $1"
            ))?,
            list: render(concat!(
                "SELECT ",
                columns!(""),
                " FROM {schema}{prefix}saga WHERE ($1::text IS NULL OR name = $1) ",
                "AND ($2::bigint IS NULL OR state = $2) AND ($3::bytea IS NULL OR business_key = $3) ",
                "AND ($4::bytea IS NULL OR id < $4) ORDER BY id DESC LIMIT $5"
            ))?,
            census: render(concat!(
                "SELECT name, version, shape, state, count(*), min(due_at), ",
                now!(),
                " FROM {schema}{prefix}saga GROUP BY name, version, shape, state"
            ))?,
            prune: render(concat!(
                "WITH old AS MATERIALIZED (SELECT id FROM {schema}{prefix}saga WHERE ended_at < ",
                now!(),
                " - $1 LIMIT $2 FOR UPDATE SKIP LOCKED), ",
                "lines AS (DELETE FROM {schema}{prefix}saga_journal WHERE saga_id IN (SELECT id FROM old)) ",
                "DELETE FROM {schema}{prefix}saga WHERE id IN (SELECT id FROM old)"
            ))?,
        })
    }

    /// The same behind another gate: another deadline, or one that other patterns share.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Makes its tables, or brings them up to date. Safe from many processes at once.
    ///
    /// # Errors
    ///
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrations.migrate(&self.pool).await
    }

    /// Whether its tables are there and up to date.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Missing`], which says what and how to get it.
    pub async fn check(&self) -> Result<(), MigrateError> {
        self.migrations.check(&self.pool).await
    }

    /// The SQL of its migrations, for a tool of your own.
    #[must_use]
    pub fn schema(&self) -> String {
        self.migrations.print()
    }

    async fn insert_on(
        &self,
        connection: &mut PgConnection,
        new: &NewSaga,
    ) -> Result<Started, sqlx::Error> {
        let key = new.business_key.as_ref().map(|key| key.as_bytes());
        loop {
            // Waits for whoever inserts the same and has not committed yet.
            let insert = sqlx::query(&self.insert)
                .bind(&new.id.as_bytes()[..])
                .bind(&new.definition.name)
                .bind(i64::from(new.definition.version))
                .bind(&new.definition.shape[..])
                .bind(key)
                .bind(&new.input);
            if insert.execute(&mut *connection).await?.rows_affected() > 0 {
                return Ok(Started::New(new.id));
            }
            let rival: Option<(Vec<u8>,)> = sqlx::query_as(&self.rival)
                .bind(&new.id.as_bytes()[..])
                .bind(&new.definition.name)
                .bind(key)
                .fetch_optional(&mut *connection)
                .await?;
            // Gone in between: it has ended, and the way is free.
            if let Some((id,)) = rival {
                let id = rows::id(id).map_err(|error| sqlx::Error::Decode(error.into()))?;
                return Ok(Started::Running(id));
            }
        }
    }

    async fn append_on(
        &self,
        connection: &mut PgConnection,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        let entries = write.entries.iter().map(rows::text);
        let entries: Vec<Vec<u8>> = entries.collect::<Result<_, _>>()?;
        let statement = if entries.is_empty() {
            &self.release
        } else {
            &self.append
        };
        let (fence, after) = (rows::fence(by), rows::released(write.then));
        let mut query = sqlx::query(statement)
            .bind(&id.as_bytes()[..])
            .bind(fence.is_some())
            .bind(fence.map_or(0, |fence| fence.epoch()))
            .bind(fence.map(|fence| fence.token().as_bytes().to_vec()))
            .bind(rows::count(entries.len()))
            .bind(write.state.code())
            .bind(&write.reason)
            .bind(after.is_some())
            .bind(after.unwrap_or(0))
            .bind(write.progress)
            .bind(rows::place(write.expected, 0));
        if !entries.is_empty() {
            query = query.bind(entries);
        }
        let done = query
            .execute(connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Statement))?;
        Ok(done.rows_affected() > 0)
    }

    async fn with_lines(
        &self,
        loan: &mut PgConnection,
        deadline: Deadline,
        mut records: Vec<Record>,
    ) -> Result<Vec<Record>, StoreError> {
        let ids: Vec<Vec<u8>> = records
            .iter()
            .filter(|record| record.entries > 0)
            .map(|record| record.id.as_bytes().to_vec())
            .collect();
        if !ids.is_empty() {
            let lines = sqlx::query_as(&self.lines).bind(ids);
            let lines: Vec<LineRow> = deadline.run(Phase::Read, lines.fetch_all(loan)).await?;
            rows::give(&mut records, lines)?;
        }
        Ok(records)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let insert = self.insert_on(&mut loan, new);
                let started = deadline.run(Phase::Statement, insert).await?;
                loan.give_back();
                Ok(started)
            })
            .await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        let started = self.insert_on(connection.postgres()?, new).await;
        started.map_err(StoreError::in_transaction)
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let statement = match ask.lapsed {
                    None => &self.claim,
                    Some(_) => &self.claim_lapsed,
                };
                let mut claim = sqlx::query_as(statement)
                    .bind(&ask.definition.name)
                    .bind(i64::from(ask.definition.version))
                    .bind(&ask.definition.shape[..])
                    .bind(i64::from(ask.limit))
                    .bind(&ask.token.as_bytes()[..])
                    .bind(rows::micros(ask.length));
                if let Some(alone) = ask.lapsed {
                    claim = claim.bind(alone == Alone::Yes);
                }
                let claim = claim.fetch_all(&mut *loan);
                let claimed: Vec<SagaRow> = deadline.run(Phase::Statement, claim).await?;
                let records = claimed.into_iter().map(rows::record);
                let records = records.collect::<Result<_, _>>()?;
                let records = self.with_lines(&mut loan, deadline, records).await?;
                loan.give_back();
                Ok(rows::claimed(ask, records))
            })
            .await
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let extend = sqlx::query(&self.extend)
                    .bind(&id.as_bytes()[..])
                    .bind(fence.epoch())
                    .bind(&fence.token().as_bytes()[..])
                    .bind(rows::micros(length))
                    .execute(&mut *loan);
                let done = deadline.run(Phase::Statement, extend).await?;
                loan.give_back();
                Ok(done.rows_affected() > 0)
            })
            .await
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let append = self.append_on(&mut loan, id, by, write);
                let done = deadline.run(Phase::Statement, append).await?;
                loan.give_back();
                Ok(done)
            })
            .await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.append_on(connection.postgres()?, id, by, write).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let read = sqlx::query_as(&self.read).bind(&id.as_bytes()[..]);
                let read = read.fetch_optional(&mut *loan);
                let row: Option<SagaRow> = deadline.run(Phase::Read, read).await?;
                let records = row.into_iter().map(rows::record);
                let records = records.collect::<Result<_, _>>()?;
                let records = self.with_lines(&mut loan, deadline, records).await?;
                loan.give_back();
                Ok(rows::whole(records))
            })
            .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let list = sqlx::query_as(&self.list)
                    .bind(&filter.name)
                    .bind(filter.state.map(crate::State::code))
                    .bind(filter.business_key.as_ref().map(|key| key.as_bytes()))
                    .bind(filter.before.map(|id| id.as_bytes().to_vec()))
                    .bind(i64::from(filter.limit))
                    .fetch_all(&mut *loan);
                let listed: Vec<SagaRow> = deadline.run(Phase::Read, list).await?;
                loan.give_back();
                listed.into_iter().map(rows::record).collect()
            })
            .await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let census = sqlx::query_as(&self.census).fetch_all(&mut *loan);
                let counted: Vec<CensusRow> = deadline.run(Phase::Read, census).await?;
                loan.give_back();
                counted.into_iter().map(rows::census).collect()
            })
            .await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let prune = sqlx::query(&self.prune)
                    .bind(rows::micros(age))
                    .bind(i64::from(limit))
                    .execute(&mut *loan);
                let done = deadline.run(Phase::Statement, prune).await?;
                loan.give_back();
                Ok(done.rows_affected())
            })
            .await
    }
}
