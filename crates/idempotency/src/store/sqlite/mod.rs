//! Records in SQLite.

mod phases;
mod sql;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Lent, Loan, Micros, MigrateError, Migration, Migrations, Phase,
    Statement, StoreError, Tables, Token, sqlite::Writer,
};
use bytes::Bytes;
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use self::sql::Sql;
use super::{
    Adopted, Adoption, Answer, Checkpoint, Decision, InTransaction, Keeps, Postponement, Request,
    Row, Store, Unfinished, decide, freed, record, unfinished,
};
use crate::{Fingerprint, ScopedKey};

/// The schema, step by step.
const MIGRATIONS: &[Migration] = &[
    Migration::new(1, include_str!("../../../migrations/sqlite/0001_keys.sql")),
    Migration::new(
        2,
        include_str!("../../../migrations/sqlite/0002_phases.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/sqlite/0003_drivers.sql"),
    ),
];

/// Records in an SQLite database, by its one writer.
///
/// It runs in this process, so it is told the time by this host's clock. All writes of one file
/// stand in one queue: begin your own transactions on the same [`Writer`].
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    gate: Gate,
    migrations: Migrations,
    sql: Arc<Sql>,
}

type Sent<'q> = Query<'q, Sqlite, SqliteArguments>;

impl SqliteStore {
    /// Records in the table `buttress_idempotency`.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(writer: Writer) -> Result<Self, MigrateError> {
        Self::with_tables(writer, &Tables::default())
    }

    /// Records in a table of another name.
    ///
    /// # Errors
    ///
    /// When an identifier becomes too long, or a schema is asked for: SQLite has none.
    pub fn with_tables(writer: Writer, tables: &Tables) -> Result<Self, MigrateError> {
        let dialect = Dialect::Sqlite;
        Ok(Self {
            writer,
            gate: Gate::sql(),
            migrations: Migrations::new("idempotency", MIGRATIONS, tables, dialect)?,
            sql: Arc::new(Sql::new(tables)?),
        })
    }

    /// The same behind this gate, of another deadline.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Makes the table, or brings it up to date.
    ///
    /// # Errors
    ///
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrations.migrate(self.writer.pool()).await
    }

    /// What [`migrate`](Self::migrate) does, [`check`](Migrations::check) and
    /// [`print`](Migrations::print).
    #[must_use]
    pub const fn migrations(&self) -> &Migrations {
        &self.migrations
    }

    /// One statement in a transaction of its own, that says of how many rows it was true.
    async fn execute<'q>(&self, query: impl FnOnce() -> Sent<'q>) -> Result<u64, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut transaction = self.writer.begin(deadline).await?;
                let done = query().execute(&mut *transaction);
                let done = deadline.run(Phase::InTransaction, done).await;
                transaction.finish(done.map(|it| it.rows_affected())).await
            })
            .await
    }

    fn fenced<'q>(query: Sent<'q>, key: &'q ScopedKey, fence: &'q Fence) -> Sent<'q> {
        query
            .bind(key.as_bytes())
            .bind(fence.epoch())
            .bind(&fence.token().as_bytes()[..])
    }

    fn completing<'q>(
        &self,
        key: &'q ScopedKey,
        fence: &'q Fence,
        outcome: &'q Bytes,
        retention: Duration,
    ) -> Sent<'q> {
        let query = sqlx::query(&self.sql.complete)
            .bind(&outcome[..])
            .bind((Micros::of_host() + retention).get());
        Self::fenced(query, key, fence)
    }

    async fn free(
        &self,
        statement: &Statement,
        key: &ScopedKey,
        fence: Fence,
    ) -> Result<bool, StoreError> {
        let remove = self.execute(|| Self::fenced(sqlx::query(&self.sql.remove), key, &fence));
        let free = self.execute(|| {
            let query = sqlx::query(statement).bind(Micros::of_host().get());
            Self::fenced(query, key, &fence)
        });
        freed(fence, remove, free).await
    }

    async fn read(
        &self,
        connection: &mut SqliteConnection,
        request: &Request<'_>,
    ) -> Result<Option<Row>, sqlx::Error> {
        sqlx::query_as(&self.sql.read)
            .bind(request.key.as_bytes())
            .fetch_optional(connection)
            .await
    }

    /// In a transaction that writes: nobody else does.
    async fn claim_on(
        &self,
        connection: &mut SqliteConnection,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        let row = self.read(connection, request).await;
        let row = row.map_err(StoreError::in_transaction)?;
        let passed = row.as_ref().and_then(|row| row.7.clone());
        let fence = match decided(row, request)? {
            Decision::Say(answer) => return Ok(answer),
            Decision::Claim(fence) => fence,
        };
        self.write(connection, &self.sql.claim, request, fence)
            .await?;
        Ok(match fence.epoch() {
            1 => Answer::Claimed(fence),
            _ => Answer::claimed(fence, passed.unwrap_or_default().into()),
        })
    }

    /// Writes a claim, and says of how many rows that was true.
    async fn write(
        &self,
        connection: &mut SqliteConnection,
        statement: &Statement,
        request: &Request<'_>,
        fence: Fence,
    ) -> Result<u64, StoreError> {
        let lease_until = Micros::of_host() + request.lease;
        let written = sqlx::query(statement)
            .bind(request.key.as_bytes())
            .bind(fence.epoch())
            .bind(&request.token.as_bytes()[..])
            .bind(&request.fingerprint.to_bytes()[..])
            .bind(lease_until.get())
            .bind((lease_until + request.retention).get())
            .bind(request.payload)
            .bind(request.driver.as_bytes())
            .execute(connection)
            .await;
        Ok(written.map_err(StoreError::in_transaction)?.rows_affected())
    }

    /// In a transaction of our own, when nobody had the key a moment ago: mostly nobody has.
    async fn claim_new(
        &self,
        connection: &mut SqliteConnection,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        let fence = Fence::new(1, request.token);
        match self
            .write(connection, &self.sql.insert, request, fence)
            .await?
        {
            0 => self.claim_on(connection, request).await,
            _ => Ok(Answer::Claimed(fence)),
        }
    }
}

fn decided(row: Option<Row>, request: &Request<'_>) -> Result<Decision, StoreError> {
    let record = row.map(record).transpose()?;
    Ok(decide(record.as_ref(), request, Micros::of_host()))
}

#[async_trait]
impl Store for SqliteStore {
    /// A duplicate reads and does not stand in the writers' queue.
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(self.writer.pool(), deadline).await?;
                let read = self.read(&mut loan, request);
                let row = deadline.run(Phase::Read, read).await?;
                loan.give_back();
                let new = row.is_none();
                if let Decision::Say(answer) = decided(row, request)? {
                    return Ok(answer);
                }
                let mut transaction = self.writer.begin(deadline).await?;
                let claimed = match new {
                    true => {
                        let claim = self.claim_new(&mut transaction, request);
                        deadline.run(Phase::InTransaction, claim).await
                    }
                    false => {
                        let claim = self.claim_on(&mut transaction, request);
                        deadline.run(Phase::InTransaction, claim).await
                    }
                };
                transaction.finish(claimed).await
            })
            .await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let extend = || {
            let lease_until = Micros::of_host() + lease;
            let query = sqlx::query(&self.sql.extend)
                .bind(lease_until.get())
                .bind((lease_until + retention).get());
            Self::fenced(query, key, &fence)
        };
        Ok(self.execute(extend).await? > 0)
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let complete = || self.completing(key, &fence, outcome, retention);
        Ok(self.execute(complete).await? > 0)
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.free(&self.sql.release, key, fence).await
    }

    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.free(&self.sql.hand_back, key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        let doubt = || Self::fenced(sqlx::query(&self.sql.doubt), key, &fence);
        Ok(self.execute(doubt).await? > 0)
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.execute(|| {
            sqlx::query(&self.sql.reap)
                .bind(Micros::of_host().get())
                .bind(limit)
        })
        .await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(self.writer.pool(), deadline).await?;
                let now = Micros::of_host();
                let rows = sqlx::query_as(&self.sql.unfinished)
                    .bind(now.get())
                    .bind((now - idle).get())
                    .bind(limit)
                    .fetch_all(&mut *loan);
                let rows = deadline.run(Phase::Read, rows).await?;
                loan.give_back();
                Ok(unfinished(rows))
            })
            .await
    }

    fn keeps(&self) -> Keeps {
        Keeps::Requests
    }

    async fn checkpoint(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        self.checkpoint_alone(key, fence, checkpoint).await
    }

    async fn checkpoint_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let connection = connection.sqlite()?;
        self.checkpoint_on(connection, key, fence, checkpoint).await
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<Option<Adopted>, StoreError> {
        self.adopt_one(adoption).await
    }

    async fn postpone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        self.postpone_one(key, fence, to).await
    }

    async fn unpark(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        self.unpark_one(key).await
    }

    /// The database has one writer: a duplicate waits for its turn as every write does, before it
    /// has a transaction, and then sees how the first ended.
    fn in_transaction(&self) -> InTransaction {
        InTransaction::Claims
    }

    async fn claim_in(
        &self,
        connection: Lent<'_>,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        self.claim_on(connection.sqlite()?, request).await
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let connection = connection.sqlite()?;
        let done = self.completing(key, &fence, outcome, retention);
        let done = done.execute(connection).await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }

    async fn take_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let connection = connection.sqlite()?;
        let now = Micros::of_host();
        let done = sqlx::query(&self.sql.take)
            .bind(key.as_bytes())
            .bind(&Token::random().as_bytes()[..])
            .bind(&Fingerprint::none().to_bytes()[..])
            .bind((now + retention).get())
            .bind(now.get())
            .execute(connection)
            .await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
