//! Records in `PostgreSQL`.

mod phases;
mod sql;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Lent, Loan, MigrateError, Migration, Migrations, Phase,
    Statement, StoreError, Tables, Token,
};
use bytes::Bytes;
use sqlx::{PgConnection, PgPool, Postgres};

use self::sql::Sql;
use super::{
    Adopted, Adoption, Answer, Checkpoint, Decision, InTransaction, Keeps, LOOKS, Micros,
    Postponement, Request, Store, Unfinished, decide, freed, micros, record, unfinished,
};
use crate::{Fingerprint, ScopedKey};

/// The schema, step by step.
const MIGRATIONS: &[Migration] = &[
    Migration::new(
        1,
        include_str!("../../../migrations/postgres/0001_keys.sql"),
    ),
    Migration::new(
        2,
        include_str!("../../../migrations/postgres/0002_phases.sql"),
    ),
    Migration::new(
        3,
        include_str!("../../../migrations/postgres/0003_drivers.sql"),
    ),
];

/// Records in `PostgreSQL`, on a pool of yours.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    gate: Gate,
    migrations: Migrations,
    sql: Arc<Sql>,
}

type Sent<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// What a claim's statement says: whether the lock is ours, the time, what was claimed, and what is
/// held.
type Looked = (
    bool,
    i64,
    Option<i64>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<i16>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);

impl PostgresStore {
    /// Records in the table `buttress_idempotency` of the connections' own schema.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(pool: PgPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// Records in a table of another name, or in another schema.
    ///
    /// # Errors
    ///
    /// When an identifier becomes too long.
    pub fn with_tables(pool: PgPool, tables: &Tables) -> Result<Self, MigrateError> {
        let dialect = Dialect::Postgres;
        Ok(Self {
            pool,
            gate: Gate::sql(),
            migrations: Migrations::new("idempotency", MIGRATIONS, tables, dialect)?,
            sql: Arc::new(Sql::new(tables)?),
        })
    }

    /// The same behind this gate: of another deadline, or shared with other stores on the server.
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
        self.migrations.migrate(&self.pool).await
    }

    /// What [`migrate`](Self::migrate) does, [`check`](Migrations::check) and
    /// [`print`](Migrations::print).
    #[must_use]
    pub const fn migrations(&self) -> &Migrations {
        &self.migrations
    }

    /// One statement that says of how many rows it was true.
    async fn execute<'q>(&self, query: impl FnOnce() -> Sent<'q>) -> Result<u64, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let done = query().execute(&mut *loan);
                let done = deadline.run(Phase::Statement, done).await?;
                loan.give_back();
                Ok(done.rows_affected())
            })
            .await
    }

    fn fenced<'q>(statement: &Statement, key: &'q ScopedKey, fence: &'q Fence) -> Sent<'q> {
        sqlx::query(statement)
            .bind(key.as_bytes())
            .bind(fence.epoch())
            .bind(&fence.token().as_bytes()[..])
    }

    async fn free(
        &self,
        statement: &Statement,
        key: &ScopedKey,
        fence: Fence,
    ) -> Result<bool, StoreError> {
        let remove = self.execute(|| Self::fenced(&self.sql.remove, key, &fence));
        let free = self.execute(|| Self::fenced(statement, key, &fence));
        freed(fence, remove, free).await
    }

    /// One look, in whatever transaction.
    async fn look(
        &self,
        connection: &mut PgConnection,
        request: &Request<'_>,
    ) -> Result<Option<Answer>, sqlx::Error> {
        let looked: Looked = sqlx::query_as(&self.sql.claim)
            .bind(self.sql.lock(request.key))
            .bind(request.key.as_bytes())
            .bind(&request.token.as_bytes()[..])
            .bind(&request.fingerprint.to_bytes()[..])
            .bind(micros(request.lease))
            .bind(micros(request.lease.saturating_add(request.retention)))
            .bind(request.payload)
            .bind(request.driver.as_bytes())
            .fetch_one(connection)
            .await?;
        answer(looked, request).map_err(|_| corrupt_row())
    }
}

/// What the look came to; `None` when the record changed meanwhile.
fn answer(looked: Looked, request: &Request<'_>) -> Result<Option<Answer>, StoreError> {
    let (ours, now, claimed, passed, epoch, token, ..) = looked;
    let (.., fingerprint, state, lease_until, expires_at, outcome, progress) = looked;
    if let Some(epoch) = claimed {
        let fence = Fence::new(epoch, request.token);
        let passed = passed.unwrap_or_default();
        return Ok(Some(Answer::claimed(fence, passed.into())));
    }
    let busy = (!ours).then(|| Answer::in_flight(Duration::ZERO, false));
    let row = match (epoch, token, fingerprint, state, lease_until, expires_at) {
        (Some(epoch), Some(token), Some(fingerprint), Some(state), Some(until), Some(expires)) => (
            epoch,
            token,
            fingerprint,
            state,
            until,
            expires,
            outcome,
            progress,
        ),
        _ => return Ok(busy),
    };
    match decide(Some(&record(row)?), request, Micros::new(now)) {
        Decision::Say(answer) => Ok(Some(answer)),
        Decision::Claim(_) => Ok(busy),
    }
}

/// As sqlx says it, so that it passes through the deadline.
fn corrupt_row() -> sqlx::Error {
    sqlx::Error::Decode("a record of an idempotency key cannot be read".into())
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                for _ in 0..LOOKS {
                    let look = self.look(&mut loan, request);
                    if let Some(answer) = deadline.run(Phase::Statement, look).await? {
                        loan.give_back();
                        return Ok(answer);
                    }
                }
                loan.give_back();
                Ok(Answer::in_flight(Duration::ZERO, false))
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
            Self::fenced(&self.sql.extend, key, &fence)
                .bind(micros(lease))
                .bind(micros(lease.saturating_add(retention)))
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
        let complete = || {
            Self::fenced(&self.sql.complete, key, &fence)
                .bind(&outcome[..])
                .bind(micros(retention))
        };
        Ok(self.execute(complete).await? > 0)
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.free(&self.sql.release, key, fence).await
    }

    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.free(&self.sql.hand_back, key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        let doubt = || Self::fenced(&self.sql.doubt, key, &fence);
        Ok(self.execute(doubt).await? > 0)
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.execute(|| sqlx::query(&self.sql.reap).bind(i64::from(limit)))
            .await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let rows = sqlx::query_as(&self.sql.unfinished)
                    .bind(micros(idle))
                    .bind(i64::from(limit))
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
        let connection = connection.postgres()?;
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

    fn in_transaction(&self) -> InTransaction {
        InTransaction::Claims
    }

    async fn claim_in(
        &self,
        connection: Lent<'_>,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        let connection = connection.postgres()?;
        for _ in 0..LOOKS {
            let look = self.look(connection, request).await;
            if let Some(answer) = look.map_err(StoreError::in_transaction)? {
                return Ok(answer);
            }
        }
        Ok(Answer::in_flight(Duration::ZERO, false))
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let done = Self::fenced(&self.sql.complete, key, &fence)
            .bind(&outcome[..])
            .bind(micros(retention))
            .execute(connection.postgres()?)
            .await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }

    async fn take_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(&self.sql.take)
            .bind(key.as_bytes())
            .bind(&Token::random().as_bytes()[..])
            .bind(&Fingerprint::none().to_bytes()[..])
            .bind(micros(retention))
            .execute(connection.postgres()?)
            .await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
