//! Records in `PostgreSQL`.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Fence, Gate, Lent, Loan, MigrateError, Migration, Migrations, NameError,
    Phase, Statement, StoreError, Tables, Token,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool, Postgres};

use super::{
    Answer, Decision, InTransaction, LOOKS, Micros, Request, Store, Unfinished, decide, micros,
    record, unfinished,
};
use crate::{Fingerprint, ScopedKey};

/// The schema, step by step.
const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/postgres/0001_keys.sql"),
)];

/// The server's clock; [`Dialect::now_micros`] as a literal.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// One round trip, whatever comes of it.
///
/// The lock is taken first: of two who come at once, one has it until his transaction ends, and
/// the other does not wait for his row but is told that he is at it. What says no for certain is
/// read, not written: `ON CONFLICT` would lock the row of each duplicate. What was committed since
/// this statement began is not read; there `ON CONFLICT` decides by the newest row, and the caller
/// looks again.
const CLAIM: &str = concat!(
    "WITH look AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock($1) AS ours, ",
    now!(),
    " AS now, held.*
        FROM (SELECT) AS nothing LEFT JOIN {schema}{prefix}idempotency AS held ON held.id = $2),
    claimed AS (
        INSERT INTO {schema}{prefix}idempotency AS it
            (id, epoch, token, fingerprint, state, lease_until, expires_at)
        SELECT $2, 1, $3, $4, 0, look.now + $5, look.now + $6 FROM look
        WHERE look.ours AND (look.id IS NULL OR look.expires_at <= look.now OR look.token = $3
            OR (look.state < 2 AND look.lease_until <= look.now))
        ON CONFLICT (id) DO UPDATE SET
            epoch = CASE WHEN it.expires_at <= excluded.lease_until - $5 THEN 1
                WHEN it.token = excluded.token THEN it.epoch ELSE it.epoch + 1 END,
            token = excluded.token, fingerprint = excluded.fingerprint, state = 0, outcome = NULL,
            lease_until = excluded.lease_until, expires_at = excluded.expires_at
        WHERE it.expires_at <= excluded.lease_until - $5
            OR (it.state < 2
                AND (it.token = excluded.token OR it.lease_until <= excluded.lease_until - $5)
                AND (it.fingerprint = excluded.fingerprint
                    OR get_byte(it.fingerprint, 0) <> get_byte(excluded.fingerprint, 0)))
        RETURNING epoch)
    SELECT look.ours, look.now, claimed.epoch, look.epoch, look.token, look.fingerprint,
        look.state, look.lease_until, look.expires_at, look.outcome
    FROM look LEFT JOIN claimed ON true"
);

const EXTEND: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET lease_until = ",
    now!(),
    " + $4,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + $5)
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const COMPLETE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 2, outcome = $4,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + $5)
    WHERE id = $1 AND epoch = $2 AND token = $3"
);

const REMOVE: &str = "DELETE FROM {schema}{prefix}idempotency
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2";

const FREE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 1, lease_until = ",
    now!(),
    "
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const DOUBT: &str = "UPDATE {schema}{prefix}idempotency SET state = 1
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2";

/// `ANY(ARRAY(…))`, for a planner may run a subquery with a limit more than once.
const REAP: &str = concat!(
    "DELETE FROM {schema}{prefix}idempotency WHERE id = ANY(ARRAY(
        SELECT id FROM {schema}{prefix}idempotency WHERE expires_at <= ",
    now!(),
    "
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))"
);

const UNFINISHED: &str = concat!(
    "SELECT id, epoch, ",
    now!(),
    " - lease_until FROM {schema}{prefix}idempotency
    WHERE state < 2 AND expires_at > ",
    now!(),
    " AND lease_until <= ",
    now!(),
    " - $1
    ORDER BY lease_until LIMIT $2"
);

const TAKE: &str = concat!(
    "INSERT INTO {schema}{prefix}idempotency AS it
        (id, epoch, token, fingerprint, state, lease_until, expires_at, outcome)
    VALUES ($1, 1, $2, $3, 2, 0, ",
    now!(),
    " + $4, '')
    ON CONFLICT (id) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
    WHERE it.expires_at <= ",
    now!()
);

/// Records in `PostgreSQL`, on a pool of yours.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    gate: Gate,
    migrations: Migrations,
    sql: Arc<Sql>,
}

struct Sql {
    /// What the locks of this table begin with: one server may have several.
    locks: String,
    claim: Statement,
    extend: Statement,
    complete: Statement,
    remove: Statement,
    free: Statement,
    doubt: Statement,
    reap: Statement,
    unfinished: Statement,
    take: Statement,
}

/// What a claim's statement says: whether the lock is ours, the time, and what is held.
type Looked = (
    bool,
    i64,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<i16>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
);

impl PostgresStore {
    /// Records in the table `buttress_idempotency` of the connections' own schema.
    ///
    /// # Panics
    ///
    /// Never: the default names fit.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::with_tables(pool, &Tables::default()).expect("the default names fit")
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
    async fn execute<'q>(
        &self,
        query: impl FnOnce() -> sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64, StoreError> {
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

    fn fenced<'q>(
        statement: &Statement,
        key: &'q ScopedKey,
        fence: &'q Fence,
    ) -> sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(statement)
            .bind(key.as_bytes())
            .bind(fence.epoch())
            .bind(&fence.token().as_bytes()[..])
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
            .fetch_one(connection)
            .await?;
        answer(looked, request).map_err(|_| corrupt_row())
    }
}

/// What the look came to; `None` when the record changed meanwhile.
fn answer(looked: Looked, request: &Request<'_>) -> Result<Option<Answer>, StoreError> {
    let (ours, now, claimed, epoch, token, fingerprint, state, lease_until, expires_at, outcome) =
        looked;
    if let Some(epoch) = claimed {
        return Ok(Some(Answer::Claimed(Fence::new(epoch, request.token))));
    }
    let busy = (!ours).then(|| Answer::in_flight(Duration::ZERO, false));
    let row = match (epoch, token, fingerprint, state, lease_until, expires_at) {
        (Some(epoch), Some(token), Some(fingerprint), Some(state), Some(until), Some(expires)) => {
            (epoch, token, fingerprint, state, until, expires, outcome)
        }
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

impl Sql {
    fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Postgres);
        Ok(Self {
            locks: tables.to_string(),
            claim: render(CLAIM)?,
            extend: render(EXTEND)?,
            complete: render(COMPLETE)?,
            remove: render(REMOVE)?,
            free: render(FREE)?,
            doubt: render(DOUBT)?,
            reap: render(REAP)?,
            unfinished: render(UNFINISHED)?,
            take: render(TAKE)?,
        })
    }

    /// The number of a key's advisory lock. Two keys that share one are told of each other's work
    /// that it is theirs in flight, and come back later.
    fn lock(&self, key: &ScopedKey) -> i64 {
        let mut hash = Sha256::new();
        hash.update(b"buttress-idempotency lock\0");
        hash.update(&self.locks);
        hash.update(b"\0");
        hash.update(key.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
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
        let statement = match fence.epoch() {
            1 => &self.sql.remove,
            _ => &self.sql.free,
        };
        let release = || Self::fenced(statement, key, &fence);
        Ok(self.execute(release).await? > 0)
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
