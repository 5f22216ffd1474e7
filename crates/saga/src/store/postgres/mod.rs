//! Sagas on PostgreSQL.

mod reach;
mod signal;
mod statements;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Lent, Loan, MigrateError, Migration, Migrations, Phase,
    StoreError, Tables,
};
use sqlx::{PgConnection, PgPool};

use self::{reach::reach, statements::Statements};
use super::{
    Alone, Append, Ask, Census, Claimed, Filter, Hand, NewSaga, NewSignal, Record, Sent, Signals,
    Started, Store, Write,
};
use crate::{
    SagaId,
    rows::{self, CensusRow, LineRow, SagaRow},
};

const MIGRATIONS: &[Migration] = &[
    Migration::new(
        1,
        include_str!("../../../migrations/postgres/0001_saga.sql"),
    ),
    Migration::new(
        2,
        include_str!("../../../migrations/postgres/0002_room_and_lapses.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/postgres/0003_signals.sql"),
    ),
    Migration::new(
        4,
        include_str!("../../../migrations/postgres/0004_children.sql"),
    ),
];

/// Sagas on PostgreSQL, on a pool of yours.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    gate: Gate,
    migrations: Migrations,
    sql: Statements,
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

    async fn insert_on(
        &self,
        connection: &mut PgConnection,
        new: &NewSaga,
    ) -> Result<Started, sqlx::Error> {
        let key = new.business_key.as_ref().map(buttress_store::Key::as_bytes);
        loop {
            // Waits for whoever inserts the same and has not committed yet.
            let insert = sqlx::query(&self.sql.insert)
                .bind(&new.id.as_bytes()[..])
                .bind(&new.definition.name)
                .bind(i64::from(new.definition.version))
                .bind(&new.definition.shape[..])
                .bind(key)
                .bind(&new.input)
                .bind(new.parent.map(|it| it.as_bytes().to_vec()));
            if insert.execute(&mut *connection).await?.rows_affected() > 0 {
                return Ok(Started::New(new.id));
            }
            let rival: Option<(Vec<u8>,)> = sqlx::query_as(&self.sql.rival)
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
        let reaches = write.reaches_others();
        let statement = match entries.is_empty() {
            _ if reaches => &self.sql.append_and_reach,
            true => &self.sql.release,
            false => &self.sql.append,
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
            .bind(rows::place(write.expected, 0))
            .bind(rows::seen(write.then));
        if reaches || !entries.is_empty() {
            query = query.bind(entries);
        }
        if reaches {
            query = reach(query, write);
        }
        let done = query
            .execute(connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Statement))?;
        Ok(done.rows_affected() > 0)
    }

    async fn append_all_on(
        &self,
        connection: &mut PgConnection,
        writes: &[Append],
    ) -> Result<Vec<bool>, StoreError> {
        let (mut of, mut seq, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for (place, it) in (1_i64..).zip(writes) {
            for (line, entry) in (0_i64..).zip(&it.write.entries) {
                of.push(place);
                seq.push(line);
                entries.push(rows::text(entry)?);
            }
        }
        let writes = writes.iter();
        let each = || writes.clone().map(|it| &it.write);
        let ids: Vec<&[u8]> = writes.clone().map(|it| &it.id.as_bytes()[..]).collect();
        let epochs: Vec<i64> = writes.clone().map(|it| it.fence.epoch()).collect();
        let tokens = writes.clone().map(|it| &it.fence.token().as_bytes()[..]);
        let written: Vec<(i64,)> = sqlx::query_as(&self.sql.append_all)
            .bind(ids)
            .bind(epochs)
            .bind(tokens.collect::<Vec<_>>())
            .bind(
                each()
                    .map(|it| rows::count(it.entries.len()))
                    .collect::<Vec<_>>(),
            )
            .bind(each().map(|it| it.state.code()).collect::<Vec<_>>())
            .bind(each().map(|it| it.reason.as_deref()).collect::<Vec<_>>())
            .bind(each().map(|it| rows::released(it.then)).collect::<Vec<_>>())
            .bind(each().map(|it| it.progress).collect::<Vec<_>>())
            .bind(each().map(reach::expected).collect::<Vec<_>>())
            .bind(of)
            .bind(seq)
            .bind(entries)
            .bind(each().map(|it| rows::seen(it.then)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await
            .map_err(|error| StoreError::of_sqlx(error, Phase::Statement))?;
        let mut told = vec![false; writes.len()];
        for (place,) in written {
            let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
            if let Some(it) = told.get_mut(place) {
                *it = true;
            }
        }
        Ok(told)
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
            let lines = sqlx::query_as(&self.sql.lines).bind(ids);
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
                    None => &self.sql.claim,
                    Some(_) => &self.sql.claim_lapsed,
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
                let extend = sqlx::query(&self.sql.extend)
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

    fn batches_at_once(&self) -> usize {
        2
    }

    async fn append_all(&self, writes: &[Append]) -> Result<Vec<bool>, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let append = self.append_all_on(&mut loan, writes);
                let told = deadline.run(Phase::Statement, append).await?;
                loan.give_back();
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
        self.append_on(connection.postgres()?, id, by, write).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let sent = self.signal_on(&mut loan, signal);
                let sent = deadline.run(Phase::Statement, sent).await?;
                loan.give_back();
                Ok(sent)
            })
            .await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.signal_on(connection.postgres()?, signal).await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.signals_of(id, name).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        Ok(self.read_all(&[id]).await?.pop())
    }

    async fn read_all(&self, ids: &[SagaId]) -> Result<Vec<Record>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let read = sqlx::query_as(&self.sql.read).bind(&ids);
                let read = read.fetch_all(&mut *loan);
                let rows: Vec<SagaRow> = deadline.run(Phase::Read, read).await?;
                let records = rows.into_iter().map(rows::record);
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
                let list = sqlx::query_as(&self.sql.list)
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
        self.gate
            .run(async |deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let prune = sqlx::query(&self.sql.prune)
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
