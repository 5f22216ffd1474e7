//! Records in MySQL 8 or MariaDB.

mod phases;
mod sql;
mod take_over;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Guarded, Isolation, Lent, Loan, MigrateError, Migration,
    Migrations, Phase, Statement, StoreError, StoreErrorKind, Tables, Token,
};
use bytes::Bytes;
use sqlx::{MySql, MySqlPool, mysql::MySqlArguments, query::Query};
use tokio::time::sleep;

use self::sql::Sql;
use super::{
    Adopted, Adoption, Answer, Checkpoint, Decision, InTransaction, Keeps, LOOKS, Micros,
    Postponement, Request, Store, Unfinished, decide, freed, micros, record, unfinished,
};
use crate::{Fingerprint, ScopedKey};

/// The schema, step by step.
const MIGRATIONS: &[Migration] = &[
    Migration::new(1, include_str!("../../../migrations/mysql/0001_keys.sql")),
    Migration::new(2, include_str!("../../../migrations/mysql/0002_phases.sql")),
    Migration::new(
        3,
        include_str!("../../../migrations/mysql/0003_drivers.sql"),
    ),
];

/// How many are removed in one transaction: who comes with one of these keys waits so long.
const FEW: usize = 20;

type Row = (
    i64,
    Vec<u8>,
    Vec<u8>,
    i16,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    i64,
);

/// Records in MySQL or MariaDB, on a pool of yours.
///
/// A key is claimed by a short statement of its own, and completed in your transaction
/// ([`complete_in`](crate::Guard::complete_in)) or by another. It is not claimed in your
/// transaction: there, a duplicate would hold a connection until yours ends.
#[derive(Clone)]
pub struct MySqlStore {
    pool: MySqlPool,
    gate: Gate,
    migrations: Migrations,
    sql: Arc<Sql>,
}

type Sent<'q> = Query<'q, MySql, MySqlArguments>;

impl MySqlStore {
    /// Records in the table `buttress_idempotency` of the connections' own database.
    ///
    /// # Errors
    ///
    /// Never, with the default names; the type is that of [`with_tables`](Self::with_tables).
    pub fn new(pool: MySqlPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// Records in a table of another name, or in another database.
    ///
    /// # Errors
    ///
    /// When an identifier becomes too long.
    pub fn with_tables(pool: MySqlPool, tables: &Tables) -> Result<Self, MigrateError> {
        let dialect = Dialect::MySql;
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

    /// One statement, a transaction by itself, that says of how many rows it was true. A deadlock
    /// took it back, so it is sent again.
    async fn execute<'q>(&self, query: impl Fn() -> Sent<'q>) -> Result<u64, StoreError> {
        let once = async |deadline: Deadline| {
            let mut loan = Loan::acquire(&self.pool, deadline).await?;
            let done = query().execute(&mut *loan);
            let done = deadline.run(Phase::Statement, done).await?;
            loan.give_back();
            Ok::<_, StoreError>(done.rows_affected())
        };
        self.gate
            .run(async |deadline: Deadline| {
                loop {
                    match once(deadline).await {
                        Err(error) if is_worth_a_look(&error, deadline) => {}
                        done => return done,
                    }
                    sleep(Duration::from_millis(2)).await;
                }
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
            .bind(micros(retention));
        Self::fenced(query, key, fence)
    }

    async fn free(
        &self,
        statement: &Statement,
        key: &ScopedKey,
        fence: Fence,
    ) -> Result<bool, StoreError> {
        let remove = self.execute(|| Self::fenced(sqlx::query(&self.sql.remove), key, &fence));
        let free = self.execute(|| Self::fenced(sqlx::query(statement), key, &fence));
        freed(fence, remove, free).await
    }

    /// A new key, in one round trip. A key that is there already: a read, which waits for nobody,
    /// and which is all there is to do unless it can be taken over.
    async fn look(
        &self,
        deadline: Deadline,
        request: &Request<'_>,
    ) -> Result<Option<Answer>, StoreError> {
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let fingerprint = request.fingerprint.to_bytes();
        let insert = sqlx::query(&self.sql.insert)
            .bind(request.key.as_bytes())
            .bind(&request.token.as_bytes()[..])
            .bind(&fingerprint[..])
            .bind(micros(request.lease))
            .bind(micros(request.lease.saturating_add(request.retention)))
            .bind(request.payload)
            .bind(take_over::due(request))
            .bind(request.driver.as_bytes())
            .execute(&mut *loan);
        match deadline.run(Phase::Statement, insert).await {
            Ok(_) => {
                loan.give_back();
                return Ok(Some(Answer::Claimed(Fence::new(1, request.token))));
            }
            Err(error) if error.kind() == StoreErrorKind::Duplicate => {}
            Err(error) => return Err(error),
        }
        let read = sqlx::query_as(&self.sql.read)
            .bind(request.key.as_bytes())
            .fetch_optional(&mut *loan);
        let row: Option<Row> = deadline.run(Phase::Read, read).await?;
        loan.give_back();
        let Some(row) = row else {
            // It went since: the next insert will do.
            return Ok(None);
        };
        match decided(row, request)? {
            Decision::Say(answer) => Ok(Some(answer)),
            Decision::Claim(_) => self.take_over(deadline, request).await,
        }
    }

    async fn remove(
        &self,
        transaction: &mut Guarded<MySql>,
        deadline: Deadline,
        expired: &[Vec<u8>],
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        for id in expired {
            let reap = sqlx::query(&self.sql.reap)
                .bind(&id[..])
                .execute(&mut **transaction);
            let reap = deadline.run(Phase::InTransaction, reap).await?;
            removed += reap.rows_affected();
        }
        Ok(removed)
    }
}

/// It lost a deadlock, and there is time to try again.
fn is_worth_a_look(error: &StoreError, deadline: Deadline) -> bool {
    error.kind() == StoreErrorKind::Contended && deadline.remaining() > Duration::from_millis(50)
}

fn decided(row: Row, request: &Request<'_>) -> Result<Decision, StoreError> {
    let (epoch, token, fingerprint, state, lease_until, expires_at, outcome, progress, now) = row;
    let row = (
        epoch,
        token,
        fingerprint,
        state,
        lease_until,
        expires_at,
        outcome,
        progress,
    );
    Ok(decide(Some(&record(row)?), request, Micros::new(now)))
}

#[async_trait]
impl Store for MySqlStore {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut look = 0;
                while look < LOOKS {
                    match self.look(deadline, request).await {
                        Ok(None) => look += 1,
                        Ok(Some(answer)) => return Ok(answer),
                        // A deadlock took it back; nothing was done, and whoever won goes on.
                        Err(error) if is_worth_a_look(&error, deadline) => {}
                        Err(error) => return Err(error),
                    }
                    sleep(Duration::from_millis(1 << look.max(1))).await;
                }
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
            let query = sqlx::query(&self.sql.extend)
                .bind(micros(lease))
                .bind(micros(lease.saturating_add(retention)));
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
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let expired = sqlx::query_scalar(&self.sql.expired)
                    .bind(limit)
                    .fetch_all(&mut *loan);
                let mut expired: Vec<Vec<u8>> = deadline.run(Phase::Read, expired).await?;
                loan.give_back();
                // Two reapers take them in the same order.
                expired.sort_unstable();
                let mut reaped = 0;
                for few in expired.chunks(FEW) {
                    let level = Isolation::ReadCommitted;
                    let mut transaction = Guarded::begin_at(level, &self.pool, deadline).await?;
                    let gone = self.remove(&mut transaction, deadline, few).await;
                    reaped += transaction.finish(gone).await?;
                }
                Ok(reaped)
            })
            .await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.gate
            .run(async |deadline: Deadline| {
                let mut loan = Loan::acquire(&self.pool, deadline).await?;
                let rows = sqlx::query_as(&self.sql.unfinished)
                    .bind(micros(idle))
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
        let connection = connection.mysql()?;
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
        InTransaction::Completes
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let connection = connection.mysql()?;
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
        let connection = connection.mysql()?;
        let token = Token::random();
        let inserted = sqlx::query(&self.sql.take)
            .bind(key.as_bytes())
            .bind(&token.as_bytes()[..])
            .bind(&Fingerprint::none().to_bytes()[..])
            .bind(micros(retention))
            .execute(&mut *connection)
            .await;
        match inserted.map_err(StoreError::in_transaction) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == StoreErrorKind::Duplicate => {}
            Err(error) => return Err(error),
        }
        let updated = sqlx::query(&self.sql.take_expired)
            .bind(&token.as_bytes()[..])
            .bind(micros(retention))
            .bind(key.as_bytes())
            .execute(connection)
            .await;
        Ok(updated.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
