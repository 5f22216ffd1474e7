//! Sagas on SQLite.

mod signal;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Dialect, Fence, Gate, Lent, Loan, Micros, MigrateError, Migration, Migrations, Phase,
    StoreError, Tables, sqlite::Writer,
};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use self::statements::Statements;
use super::{
    Alone, Append, Ask, Census, Claimed, Filter, Hand, NewSaga, NewSignal, Record, Sent, Signals,
    Started, Store, Write,
};
use crate::{
    SagaId,
    rows::{self, CensusRow, LineRow, SagaRow},
};

const MIGRATIONS: &[Migration] = &[
    Migration::new(1, include_str!("../../../migrations/sqlite/0001_saga.sql")),
    Migration::new(
        2,
        include_str!("../../../migrations/sqlite/0002_signals.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/sqlite/0003_children.sql"),
    ),
];

/// Sagas on SQLite, in a file of yours. It is told the time: by this host's clock.
///
/// Open the pool with the options of [`buttress_store::sqlite::options`], lazily.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: Writer,
    reader: SqlitePool,
    gate: Gate,
    read_gate: Gate,
    migrations: Migrations,
    sql: Statements,
}

impl SqliteStore {
    /// Sagas in the default tables, `buttress_saga` and `buttress_saga_journal`.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(pool: SqlitePool) -> Result<Self, MigrateError> {
        Self::with_tables(Writer::new(pool), &Tables::default())
    }

    /// Sagas in tables of other names, by a writer that other patterns on the same file share.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`], when an identifier becomes too long or a schema is asked for.
    pub fn with_tables(writer: Writer, tables: &Tables) -> Result<Self, MigrateError> {
        let migrations = Migrations::new("saga", MIGRATIONS, tables, Dialect::Sqlite)?;
        let gate = Gate::sql();
        Ok(Self {
            reader: writer.pool().clone(),
            writer,
            read_gate: gate.clone(),
            gate,
            migrations,
            sql: Statements::new(tables)?,
        })
    }

    /// The same behind another gate: another deadline, or one that other patterns share.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.read_gate = gate.clone();
        self.gate = gate;
        self
    }

    /// The same, which reads by this pool on the same file, behind a gate of its own, and so waits
    /// for no write; by the writer's otherwise.
    #[must_use]
    pub fn with_reader(mut self, reader: SqlitePool) -> Self {
        self.read_gate = Gate::sql();
        self.reader = reader;
        self
    }

    /// Makes its tables, or brings them up to date. Safe from many processes at once.
    ///
    /// # Errors
    ///
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrations.migrate(self.writer.pool()).await
    }

    /// Whether its tables are there and up to date.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Missing`], which says what and how to get it.
    pub async fn check(&self) -> Result<(), MigrateError> {
        self.migrations.check(self.writer.pool()).await
    }

    /// The SQL of its migrations, for a tool of your own.
    #[must_use]
    pub fn schema(&self) -> String {
        self.migrations.print()
    }

    /// One write, in its turn.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut transaction = self.writer.begin(deadline).await?;
                let result = deadline
                    .run(Phase::InTransaction, work(&mut transaction))
                    .await;
                transaction.finish(result).await
            })
            .await
    }

    async fn insert_on(
        &self,
        connection: &mut SqliteConnection,
        new: &NewSaga,
    ) -> Result<Started, StoreError> {
        let key = new.business_key.as_ref().map(buttress_store::Key::as_bytes);
        let insert = sqlx::query(&self.sql.insert)
            .bind(Micros::of_host().get())
            .bind(&new.id.as_bytes()[..])
            .bind(&new.definition.name)
            .bind(i64::from(new.definition.version))
            .bind(&new.definition.shape[..])
            .bind(key)
            .bind(&new.input)
            .bind(new.parent.map(|it| it.as_bytes().to_vec()))
            .execute(&mut *connection);
        let inserted = insert.await.map_err(StoreError::in_transaction)?;
        if inserted.rows_affected() > 0 {
            return Ok(Started::New(new.id));
        }
        // Nobody else writes while this transaction does.
        let (rival,): (Vec<u8>,) = sqlx::query_as(&self.sql.rival)
            .bind(&new.id.as_bytes()[..])
            .bind(&new.definition.name)
            .bind(key)
            .fetch_one(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(Started::Running(rows::id(rival)?))
    }

    async fn append_on(
        &self,
        connection: &mut SqliteConnection,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        let now = Micros::of_host().get();
        let (fence, after) = (rows::fence(by), rows::released(write.then));
        let moved = sqlx::query(&self.sql.append)
            .bind(now)
            .bind(&id.as_bytes()[..])
            .bind(fence.is_some())
            .bind(fence.map_or(0, |fence| fence.epoch()))
            .bind(fence.map(|fence| fence.token().as_bytes().to_vec()))
            .bind(rows::count(write.entries.len()))
            .bind(write.state.code())
            .bind(&write.reason)
            .bind(after.is_some())
            .bind(after.unwrap_or(0))
            .bind(write.progress)
            .bind(rows::place(write.expected, 0))
            .bind(rows::seen(write.then))
            .execute(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        if !write.entries.is_empty() {
            sqlx::query(&self.sql.written)
                .bind(now)
                .bind(&id.as_bytes()[..])
                .bind(rows::place(write.expected, 0))
                .bind(rows::texts(&write.entries)?)
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        for new in &write.starts {
            self.insert_on(connection, new).await?;
        }
        if let Some(parent) = write.wakes {
            sqlx::query(&self.sql.wake_parent)
                .bind(now)
                .bind(&parent.as_bytes()[..])
                .execute(connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        Ok(true)
    }

    async fn with_lines(
        &self,
        connection: &mut SqliteConnection,
        mut records: Vec<Record>,
    ) -> Result<Vec<Record>, StoreError> {
        for record in records.iter_mut().filter(|it| it.entries > 0) {
            let lines: Vec<LineRow> = sqlx::query_as(&self.sql.lines)
                .bind(&record.id.as_bytes()[..])
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            rows::give(std::slice::from_mut(record), lines)?;
        }
        Ok(records)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.write(async |connection| self.insert_on(connection, new).await)
            .await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.insert_on(connection.sqlite()?, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.write(async |connection| {
            let statement = match ask.lapsed {
                None => &self.sql.claim,
                Some(_) => &self.sql.claim_lapsed,
            };
            let mut claim = sqlx::query_as(statement)
                .bind(Micros::of_host().get())
                .bind(&ask.definition.name)
                .bind(i64::from(ask.definition.version))
                .bind(&ask.definition.shape[..])
                .bind(i64::from(ask.limit))
                .bind(&ask.token.as_bytes()[..])
                .bind(rows::micros(ask.length));
            if let Some(alone) = ask.lapsed {
                claim = claim.bind(alone == Alone::Yes);
            }
            let claimed = claim.fetch_all(&mut *connection).await;
            let claimed: Vec<SagaRow> = claimed.map_err(StoreError::in_transaction)?;
            let records = claimed.into_iter().map(rows::record);
            let records = records.collect::<Result<_, _>>()?;
            let records = self.with_lines(connection, records).await?;
            Ok(rows::claimed(ask, records))
        })
        .await
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        self.write(async |connection| {
            let extend = sqlx::query(&self.sql.extend)
                .bind(Micros::of_host().get())
                .bind(&id.as_bytes()[..])
                .bind(fence.epoch())
                .bind(&fence.token().as_bytes()[..])
                .bind(rows::micros(length))
                .execute(connection);
            let done = extend.await.map_err(StoreError::in_transaction)?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        self.write(async |connection| self.append_on(connection, id, by, write).await)
            .await
    }

    fn batches_at_once(&self) -> usize {
        1 // There is one writer.
    }

    async fn append_all(&self, writes: &[Append]) -> Result<Vec<bool>, StoreError> {
        self.write(async |connection| {
            let mut told = Vec::with_capacity(writes.len());
            for it in writes {
                let by = Hand::Holder(it.fence);
                let alone = it.write.reaches_others();
                told.push(!alone && self.append_on(connection, it.id, by, &it.write).await?);
            }
            Ok(told)
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
        self.append_on(connection.sqlite()?, id, by, write).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        self.write(async |connection| self.signal_on(connection, signal).await)
            .await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.signal_on(connection.sqlite()?, signal).await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.signals_of(id, name).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        Ok(self.read_all(&[id]).await?.pop())
    }

    async fn read_all(&self, ids: &[SagaId]) -> Result<Vec<Record>, StoreError> {
        self.read_gate
            .run(async |deadline| {
                let mut loan = Loan::<Sqlite>::acquire(&self.reader, deadline).await?;
                let mut found = Vec::with_capacity(ids.len());
                for id in ids {
                    let read = self.read_on(&mut loan, *id);
                    found.extend(deadline.run(Phase::Read, read).await?);
                }
                loan.give_back();
                Ok(found)
            })
            .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.read_gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.reader, deadline).await?;
                let list = sqlx::query_as(&self.sql.list)
                    .bind(Micros::of_host().get())
                    .bind(&filter.name)
                    .bind(filter.state.map(crate::State::code))
                    .bind(
                        filter
                            .business_key
                            .as_ref()
                            .map(buttress_store::Key::as_bytes),
                    )
                    .bind(filter.before.map(|id| id.as_bytes().to_vec()))
                    .bind(i64::from(filter.limit))
                    .bind(filter.parent.map(|id| id.as_bytes().to_vec()))
                    .fetch_all(&mut *loan);
                let listed: Vec<SagaRow> = deadline.run(Phase::Read, list).await?;
                loan.give_back();
                listed.into_iter().map(rows::record).collect()
            })
            .await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.read_gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.reader, deadline).await?;
                let census = sqlx::query_as(&self.sql.census)
                    .bind(Micros::of_host().get())
                    .fetch_all(&mut *loan);
                let counted: Vec<CensusRow> = deadline.run(Phase::Read, census).await?;
                loan.give_back();
                counted.into_iter().map(rows::census).collect()
            })
            .await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write(async |connection| {
            let before = Micros::of_host() - age;
            let old: Vec<(Vec<u8>,)> = sqlx::query_as(&self.sql.old)
                .bind(before.get())
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            for (id,) in &old {
                for statement in [
                    &self.sql.prune_lines,
                    &self.sql.prune_signals,
                    &self.sql.prune,
                ] {
                    let delete = sqlx::query(statement).bind(id).execute(&mut *connection);
                    delete.await.map_err(StoreError::in_transaction)?;
                }
            }
            Ok(old.len() as u64)
        })
        .await
    }
}

impl SqliteStore {
    async fn read_on(
        &self,
        connection: &mut SqliteConnection,
        id: SagaId,
    ) -> Result<Option<Record>, StoreError> {
        let row: Option<SagaRow> = sqlx::query_as(&self.sql.read)
            .bind(Micros::of_host().get())
            .bind(&id.as_bytes()[..])
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
        let records = row.into_iter().map(rows::record);
        let records = records.collect::<Result<_, _>>()?;
        let records = self.with_lines(connection, records).await?;
        Ok(rows::whole(records).pop())
    }
}
