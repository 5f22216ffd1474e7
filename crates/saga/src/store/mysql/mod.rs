//! Sagas on MySQL 8 and MariaDB.

mod reach;
mod signal;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Dialect, Fence, Gate, Guarded, Isolation, Lent, Loan, MigrateError, Migration, Migrations,
    Phase, StoreError, Tables,
};
use sqlx::{MySqlConnection, MySqlPool};

use self::{signal::Level, statements::Statements};
use super::{
    Alone, Ask, Census, Claimed, Filter, Hand, NewSaga, NewSignal, Record, Sent, Signals, Started,
    Store, Write,
};
use crate::{
    SagaId, State,
    rows::{self, CensusRow, LineRow, SagaRow},
};

const MIGRATIONS: &[Migration] = &[
    Migration::new(1, include_str!("../../../migrations/mysql/0001_saga.sql")),
    Migration::new(
        2,
        include_str!("../../../migrations/mysql/0002_signals.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/mysql/0003_children.sql"),
    ),
];

/// Sagas on MySQL 8 or MariaDB 10.6 or later, on a pool of yours. Tested on MariaDB.
#[derive(Clone, Debug)]
pub struct MySqlStore {
    pool: MySqlPool,
    gate: Gate,
    migrations: Migrations,
    sql: Statements,
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
        Ok(Self {
            pool,
            gate: Gate::sql(),
            migrations,
            sql: Statements::new(tables)?,
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
        let key = new.business_key.as_ref().map(buttress_store::Key::as_bytes);
        let insert = sqlx::query(&self.sql.insert)
            .bind(&new.id.as_bytes()[..])
            .bind(&new.definition.name)
            .bind(i64::from(new.definition.version))
            .bind(&new.definition.shape[..])
            .bind(key)
            .bind(key.filter(|_| new.parent.is_none()))
            .bind(&new.input)
            .execute(&mut *connection);
        match insert.await {
            Ok(_) => {
                self.adopt_on(connection, new).await?;
                return Ok(Started::New(new.id));
            }
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            Err(error) => return Err(StoreError::in_transaction(error)),
        }
        // Waited for by the insert, if it was under way, and locked by it.
        let (rival,): (Vec<u8>,) = sqlx::query_as(&self.sql.rival)
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
        level: Level,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        let (fence, after) = (rows::fence(by), rows::released(write.then));
        let ended = write.state.has_ended();
        let freed = after.is_some() || !write.state.is_active() || fence.is_none();
        let moved = sqlx::query(&self.sql.append)
            .bind(rows::count(write.entries.len()))
            .bind(write.state.code())
            .bind(rows::word(write.reason.as_deref()))
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
            sqlx::query(&self.sql.line)
                .bind(rows::place(write.expected, place))
                .bind(rows::text(entry)?)
                .bind(&id.as_bytes()[..])
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        if let Some(seen) = rows::seen(write.then) {
            let listen = sqlx::query(&self.sql.listen).bind(&id.as_bytes()[..]);
            listen
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            sqlx::query(&self.sql.unseen)
                .bind(&id.as_bytes()[..])
                .bind(&id.as_bytes()[..])
                .bind(&id.as_bytes()[..])
                .bind(seen)
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        self.reach_on(connection, level, id, write).await?;
        Ok(true)
    }

    /// Those of them that are there, each with its journal, in two trips.
    async fn read_on(
        &self,
        connection: &mut MySqlConnection,
        ids: &[SagaId],
    ) -> Result<Vec<Record>, StoreError> {
        let asked = rows::hexadecimal(ids)?;
        let found: Vec<SagaRow> = sqlx::query_as(&self.sql.read)
            .bind(&asked)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
        let mut records: Vec<Record> = found
            .into_iter()
            .map(rows::record)
            .collect::<Result<_, _>>()?;
        if records.iter().any(|record| record.entries > 0) {
            let lines: Vec<LineRow> = sqlx::query_as(&self.sql.lines)
                .bind(&asked)
                .fetch_all(connection)
                .await
                .map_err(|error| StoreError::of_sqlx(error, Phase::Read))?;
            rows::give(&mut records, lines)?;
        }
        Ok(rows::whole(records))
    }

    async fn claim_on(
        &self,
        connection: &mut MySqlConnection,
        ask: &Ask,
    ) -> Result<Vec<Record>, StoreError> {
        let due = match ask.lapsed {
            None => &self.sql.due,
            Some(_) => &self.sql.due_lapsed,
        };
        let mut found: Vec<(Vec<u8>, i64)> = Vec::new();
        for state in [State::Running, State::Undoing] {
            let due = sqlx::query_as(due)
                .bind(&ask.definition.name)
                .bind(i64::from(ask.definition.version))
                .bind(&ask.definition.shape[..])
                .bind(state.code())
                .bind(i64::from(ask.limit))
                .fetch_all(&mut *connection);
            found.extend(due.await.map_err(StoreError::in_transaction)?);
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        // Those that are due longest. What is left over is locked until this ends, and no longer.
        found.sort_by_key(|it| it.1);
        found.truncate(ask.limit as usize);
        let ids = rows::ids(found.into_iter().map(|it| it.0))?;
        let asked = rows::hexadecimal(&ids)?;
        if ask.lapsed.is_some() {
            let died = sqlx::query(&self.sql.died).bind(&asked);
            died.execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        sqlx::query(&self.sql.claim)
            .bind(&asked)
            .bind(ask.lapsed == Some(Alone::Yes))
            .bind(&ask.token.as_bytes()[..])
            .bind(rows::micros(ask.length))
            .execute(&mut *connection)
            .await
            .map_err(StoreError::in_transaction)?;
        self.read_on(connection, &ids).await
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
                let extend = sqlx::query(&self.sql.extend)
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
        self.write(async |connection| self.append_on(connection, Level::Ours, id, by, write).await)
            .await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.append_on(connection.mysql()?, Level::Theirs, id, by, write)
            .await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        self.write(async |connection| self.signal_on(connection, Level::Ours, signal).await)
            .await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.signal_on(connection.mysql()?, Level::Theirs, signal)
            .await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.signals_of(id, name).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        Ok(self.read_all(&[id]).await?.pop())
    }

    async fn read_all(&self, ids: &[SagaId]) -> Result<Vec<Record>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let read = self.read_on(&mut loan, ids);
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
                let state = filter.state.map(State::code);
                let key = filter
                    .business_key
                    .as_ref()
                    .map(buttress_store::Key::as_bytes);
                let before = filter.before.map(|id| id.as_bytes().to_vec());
                let parent = filter.parent.map(|id| id.as_bytes().to_vec());
                let list = sqlx::query_as(&self.sql.list)
                    .bind(&filter.name)
                    .bind(&filter.name)
                    .bind(state)
                    .bind(state)
                    .bind(key)
                    .bind(key)
                    .bind(&before)
                    .bind(&before)
                    .bind(&parent)
                    .bind(&parent)
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
                let census = sqlx::query_as(&self.sql.census).fetch_all(&mut *loan);
                let counted: Vec<CensusRow> = deadline.run(Phase::Read, census).await?;
                loan.give_back();
                counted.into_iter().map(rows::census).collect()
            })
            .await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write(async |connection| {
            let old: Vec<(Vec<u8>,)> = sqlx::query_as(&self.sql.old)
                .bind(rows::micros(age))
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            if old.is_empty() {
                return Ok(0);
            }
            let ids = rows::ids(old.into_iter().map(|it| it.0))?;
            // A trip for each saga would take longer than the deadline, and none would ever go.
            let asked = rows::hexadecimal(&ids)?;
            for statement in [
                &self.sql.prune_lines,
                &self.sql.prune_signals,
                &self.sql.prune_listens,
                &self.sql.prune_child,
                &self.sql.prune,
            ] {
                let delete = sqlx::query(statement)
                    .bind(&asked)
                    .execute(&mut *connection);
                delete.await.map_err(StoreError::in_transaction)?;
            }
            Ok(ids.len() as u64)
        })
        .await
    }
}
