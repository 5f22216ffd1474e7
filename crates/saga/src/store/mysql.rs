//! Sagas on MySQL 8 and MariaDB.

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Dialect, Fence, Gate, Guarded, Isolation, Lent, Loan, MigrateError, Migration, Migrations,
    NameError, Phase, Statement, StoreError, Tables,
};
use sqlx::{MySqlConnection, MySqlPool};

use super::{
    Alone, Ask, Census, Claimed, Filter, Hand, NewSaga, Record, Started, Store, Write,
    rows::{self, CensusRow, LineRow, SagaRow},
};
use crate::SagaId;

const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/mysql/0001_saga.sql"),
)];

/// Sagas on MySQL 8 or MariaDB 10.6 or later, on a pool of yours. Tested on MariaDB.
#[derive(Clone, Debug)]
pub struct MySqlStore {
    pool: MySqlPool,
    gate: Gate,
    migrations: Migrations,
    insert: Statement,
    rival: Statement,
    due: Statement,
    due_lapsed: Statement,
    claim: Statement,
    claimed: Statement,
    lines: Statement,
    extend: Statement,
    append: Statement,
    line: Statement,
    list: Statement,
    census: Statement,
    old: Statement,
    prune_lines: Statement,
    prune: Statement,
}

/// The server's clock. Statements are literals, so it is a macro.
macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
    };
}

macro_rules! columns {
    () => {
        concat!(
            "id, name, version, shape, business_key, input, state, reason, due_at, epoch, ",
            "CAST(token IS NOT NULL AS SIGNED), lapses, entries, created_at, ended_at, ",
            now!()
        )
    };
}

impl MySqlStore {
    /// Sagas in the default tables, `buttress_saga` and `buttress_saga_journal`.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(pool: MySqlPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// Sagas in tables of other names.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when an identifier becomes too long.
    pub fn with_tables(pool: MySqlPool, tables: &Tables) -> Result<Self, MigrateError> {
        let migrations = Migrations::new("saga", MIGRATIONS, tables, Dialect::MySql)?;
        Ok(Self::rendered(pool, migrations, tables)?)
    }

    fn rendered(
        pool: MySqlPool,
        migrations: Migrations,
        tables: &Tables,
    ) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::MySql);
        Ok(Self {
            pool,
            gate: Gate::sql(),
            migrations,
            // A duplicate is refused, which takes back this statement and no other.
            insert: render(concat!(
                "INSERT INTO {schema}{prefix}saga (id, name, version, shape, business_key, running_key, input, state, due_at, created_at) ",
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0, ",
                now!(),
                ", ",
                now!(),
                ")"
            ))?,
            // The latest committed, not the transaction's snapshot.
            rival: render(
                "SELECT id FROM {schema}{prefix}saga WHERE id = ? OR (name = ? AND running_key = ?) \
                 ORDER BY id = ? DESC LIMIT 1 LOCK IN SHARE MODE",
            )?,
            due: render(concat!(
                "SELECT id FROM {schema}{prefix}saga WHERE name = ? AND version = ? AND shape = ? AND state IN (0, 1) ",
                "AND token IS NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            due_lapsed: render(concat!(
                "SELECT id FROM {schema}{prefix}saga WHERE name = ? AND version = ? AND shape = ? AND state IN (0, 1) ",
                "AND token IS NOT NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            // Assignments are made from the left to the right, each with what those before made.
            claim: render(concat!(
                "UPDATE {schema}{prefix}saga SET epoch = epoch + 1, lapses = lapses + (alone AND token IS NOT NULL), ",
                "alone = ?, token = ?, due_at = ",
                now!(),
                " + ? WHERE id = ?"
            ))?,
            claimed: render(concat!(
                "SELECT ",
                columns!(),
                " FROM {schema}{prefix}saga WHERE id = ?"
            ))?,
            lines: render(
                "SELECT saga_id, at, epoch, entry FROM {schema}{prefix}saga_journal WHERE saga_id = ? ORDER BY seq",
            )?,
            extend: render(concat!(
                "UPDATE {schema}{prefix}saga SET due_at = ",
                now!(),
                " + ? WHERE id = ? AND epoch = ? AND token = ?"
            ))?,
            append: render(concat!(
                "UPDATE {schema}{prefix}saga SET entries = entries + ?, state = ?, reason = ?, ",
                "epoch = epoch + ?, token = CASE WHEN ? THEN NULL ELSE token END, ",
                "due_at = CASE WHEN ? THEN ",
                now!(),
                " + ? ELSE due_at END, ",
                "alone = CASE WHEN ? THEN FALSE ELSE alone END, lapses = CASE WHEN ? THEN 0 ELSE lapses END, ",
                "running_key = CASE WHEN ? THEN NULL ELSE running_key END, ",
                "ended_at = CASE WHEN ? THEN ",
                now!(),
                " ELSE ended_at END ",
                "WHERE id = ? AND entries = ? AND (? OR (epoch = ? AND token = ?))"
            ))?,
            line: render(concat!(
                "INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT id, ?, ",
                now!(),
                ", epoch, ? FROM {schema}{prefix}saga WHERE id = ?"
            ))?,
            list: render(concat!(
                "SELECT ",
                columns!(),
                " FROM {schema}{prefix}saga WHERE (? IS NULL OR name = ?) ",
                "AND (? IS NULL OR state = ?) AND (? IS NULL OR business_key = ?) ",
                "AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?"
            ))?,
            census: render(concat!(
                "SELECT name, version, shape, state, COUNT(*), MIN(due_at), ",
                now!(),
                " FROM {schema}{prefix}saga GROUP BY name, version, shape, state"
            ))?,
            old: render(concat!(
                "SELECT id FROM {schema}{prefix}saga WHERE ended_at < ",
                now!(),
                " - ? LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            prune_lines: render("DELETE FROM {schema}{prefix}saga_journal WHERE saga_id = ?")?,
            prune: render("DELETE FROM {schema}{prefix}saga WHERE id = ?")?,
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

    /// One transaction. Claims at the default level would lock gaps, and block the business.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.gate
            .run(async |deadline| {
                let level = Isolation::ReadCommitted;
                let mut transaction = Guarded::begin_at(level, &self.pool, deadline).await?;
                let result = deadline
                    .run(Phase::InTransaction, work(&mut transaction))
                    .await;
                transaction.finish(result).await
            })
            .await
    }

    async fn insert_on(
        &self,
        connection: &mut MySqlConnection,
        new: &NewSaga,
    ) -> Result<Started, StoreError> {
        let key = new.business_key.as_ref().map(|key| key.as_bytes());
        let insert = sqlx::query(&self.insert)
            .bind(&new.id.as_bytes()[..])
            .bind(&new.definition.name)
            .bind(i64::from(new.definition.version))
            .bind(&new.definition.shape[..])
            .bind(key)
            .bind(key)
            .bind(&new.input)
            .execute(&mut *connection);
        match insert.await {
            Ok(_) => return Ok(Started::New(new.id)),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            Err(error) => return Err(StoreError::in_transaction(error)),
        }
        // Waited for by the insert, if it was under way, and locked by it.
        let (rival,): (Vec<u8>,) = sqlx::query_as(&self.rival)
            .bind(&new.id.as_bytes()[..])
            .bind(&new.definition.name)
            .bind(key)
            .bind(&new.id.as_bytes()[..])
            .fetch_one(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(Started::Running(rows::id(rival)?))
    }

    async fn append_on(
        &self,
        connection: &mut MySqlConnection,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        let (fence, after) = (rows::fence(by), rows::released(write.then));
        let ended = write.state.has_ended();
        let freed = after.is_some() || !write.state.is_active() || fence.is_none();
        let moved = sqlx::query(&self.append)
            .bind(rows::count(write.entries.len()))
            .bind(write.state.code())
            .bind(&write.reason)
            .bind(i64::from(fence.is_none()))
            .bind(freed)
            .bind(after.is_some())
            .bind(after.unwrap_or(0))
            .bind(write.progress)
            .bind(write.progress)
            .bind(ended)
            .bind(ended)
            .bind(&id.as_bytes()[..])
            .bind(rows::place(write.expected, 0))
            .bind(fence.is_none())
            .bind(fence.map_or(0, |fence| fence.epoch()))
            .bind(fence.map(|fence| fence.token().as_bytes().to_vec()))
            .execute(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        for (place, entry) in write.entries.iter().enumerate() {
            sqlx::query(&self.line)
                .bind(rows::place(write.expected, place))
                .bind(rows::text(entry)?)
                .bind(&id.as_bytes()[..])
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        Ok(true)
    }

    async fn read_on(
        &self,
        connection: &mut MySqlConnection,
        id: &[u8],
    ) -> Result<Option<Record>, StoreError> {
        let row: Option<SagaRow> = sqlx::query_as(&self.claimed)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut record = rows::record(row)?;
        if record.entries > 0 {
            let lines: Vec<LineRow> = sqlx::query_as(&self.lines)
                .bind(id)
                .fetch_all(connection)
                .await
                .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
            rows::give(std::slice::from_mut(&mut record), lines)?;
        }
        Ok(rows::whole(vec![record]))
    }

    async fn claim_on(
        &self,
        connection: &mut MySqlConnection,
        ask: &Ask,
    ) -> Result<Vec<Record>, StoreError> {
        let due = match ask.lapsed {
            None => &self.due,
            Some(_) => &self.due_lapsed,
        };
        let due: Vec<(Vec<u8>,)> = sqlx::query_as(due)
            .bind(&ask.definition.name)
            .bind(i64::from(ask.definition.version))
            .bind(&ask.definition.shape[..])
            .bind(i64::from(ask.limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        let mut records = Vec::with_capacity(due.len());
        for (id,) in due {
            sqlx::query(&self.claim)
                .bind(ask.lapsed == Some(Alone::Yes))
                .bind(&ask.token.as_bytes()[..])
                .bind(rows::micros(ask.length))
                .bind(&id)
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            records.extend(self.read_on(connection, &id).await?);
        }
        Ok(records)
    }
}

#[async_trait]
impl Store for MySqlStore {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.write(async |connection| self.insert_on(connection, new).await)
            .await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.insert_on(connection.mysql()?, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        let records = self
            .write(async |connection| self.claim_on(connection, ask).await)
            .await?;
        Ok(rows::claimed(ask, records))
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let extend = sqlx::query(&self.extend)
                    .bind(rows::micros(length))
                    .bind(&id.as_bytes()[..])
                    .bind(fence.epoch())
                    .bind(&fence.token().as_bytes()[..])
                    .execute(&mut *loan);
                let done = deadline.run(Phase::Statement, extend).await?;
                loan.give_back();
                Ok(done.rows_affected() > 0)
            })
            .await
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        self.write(async |connection| self.append_on(connection, id, by, write).await)
            .await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.append_on(connection.mysql()?, id, by, write).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let read = self.read_on(&mut loan, id.as_bytes());
                let found = deadline.run(Phase::Read, read).await?;
                loan.give_back();
                Ok(found)
            })
            .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let state = filter.state.map(crate::State::code);
                let key = filter.business_key.as_ref().map(|key| key.as_bytes());
                let before = filter.before.map(|id| id.as_bytes().to_vec());
                let list = sqlx::query_as(&self.list)
                    .bind(&filter.name)
                    .bind(&filter.name)
                    .bind(state)
                    .bind(state)
                    .bind(key)
                    .bind(key)
                    .bind(&before)
                    .bind(&before)
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
        self.write(async |connection| {
            let old: Vec<(Vec<u8>,)> = sqlx::query_as(&self.old)
                .bind(rows::micros(age))
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            for (id,) in &old {
                for statement in [&self.prune_lines, &self.prune] {
                    let delete = sqlx::query(statement).bind(id).execute(&mut *connection);
                    delete.await.map_err(StoreError::in_transaction)?;
                }
            }
            Ok(old.len() as u64)
        })
        .await
    }
}
