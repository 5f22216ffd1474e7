//! PostgreSQL: one statement a decision, or one short transaction; by the server's clock.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Guarded, Isolation, Key, Loan, Micros, MigrateError, Migration, Migrations,
    Phase, Statement, StoreError, StoreErrorKind, Tables,
};
use sqlx::PgPool;

use super::{
    Answer, Ask, Slot, Store, What,
    row::{self, Row},
    signed, unit,
};
use crate::machine::{Bucket, Rule};

const STEPS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/postgres/1_rate_limits.sql"),
)];
/// One bucket, one statement. $1 key, $2 unit, $3 length, $4 gain, $5 most, $6 step, $7 price.
///
/// The time is that of the statement's beginning, by which a row that waited for its lock is judged as
/// well: the row's own time is never taken back by it.
const ONE: &str = "WITH clock AS MATERIALIZED ( \
       SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now \
     ), taken AS ( \
       INSERT INTO {schema}{prefix}rate_limits AS r \
         (key, unit, seen, level, before, others, expires) \
       SELECT $1, $2, now, $7, 0, NULL, now + ($7 + $4 - 1) / $4 * $3 + 1000000 FROM clock \
       ON CONFLICT (key) DO UPDATE SET \
         unit = excluded.unit, before = 0, others = NULL, \
         seen = CASE WHEN r.seen - excluded.seen > $6 THEN excluded.seen \
                     ELSE greatest(r.seen, excluded.seen) END, \
         level = greatest(0, r.level - greatest(0, least(excluded.seen / $3 - r.seen / $3, 9007199254740992 / $4 + 1)) * $4) + $7, \
         expires = greatest(r.seen, excluded.seen) + 1000000 + $3 * ((greatest(0, r.level \
           - greatest(0, least(excluded.seen / $3 - r.seen / $3, 9007199254740992 / $4 + 1)) * $4) + $7 + $4 - 1) / $4) \
       WHERE r.unit = $2 \
         AND greatest(0, r.level - greatest(0, least(excluded.seen / $3 - r.seen / $3, 9007199254740992 / $4 + 1)) * $4) + $7 <= $5 \
       RETURNING seen, level \
     ) \
     SELECT now, true, $2, seen, level FROM clock, taken \
     UNION ALL \
     SELECT now, false, r.unit, r.seen, r.level FROM clock, {schema}{prefix}rate_limits r \
       WHERE r.key = $1 AND NOT EXISTS (SELECT 1 FROM taken)";
/// Makes the row, or locks it as it is.
const LOCK: &str = "INSERT INTO {schema}{prefix}rate_limits AS r \
     (key, unit, seen, level, before, others, expires) VALUES ($1, 0, 0, 0, 0, NULL, 0) \
     ON CONFLICT (key) DO UPDATE SET seen = r.seen \
     RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     unit, seen, level, before, others";
const SELECT: &str = "SELECT now, unit, seen, level, before, others FROM \
     (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) clock \
     LEFT JOIN {schema}{prefix}rate_limits ON key = $1";
const WRITE: &str = "UPDATE {schema}{prefix}rate_limits SET unit = $1, seen = $2, level = $3, \
     before = $4, others = $5, expires = $6 WHERE key = $7";
const FORGET: &str = "DELETE FROM {schema}{prefix}rate_limits WHERE key = $1";
const PRUNE: &str = "DELETE FROM {schema}{prefix}rate_limits WHERE key IN \
     (SELECT key FROM {schema}{prefix}rate_limits \
      WHERE expires < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint LIMIT $1)";

/// How often a decision that got into another's way is made anew.
const AGAIN: u32 = 3;

type Timed = (
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

/// A store on PostgreSQL, by the server's clock: a quota of one token bucket or fixed window is one
/// statement a decision, and a refusal writes nothing; several bandwidths and sliding windows are one short
/// transaction.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    statements: Arc<Statements>,
}

struct Statements {
    migrations: Migrations,
    one: Statement,
    lock: Statement,
    select: Statement,
    write: Statement,
    forget: Statement,
    prune: Statement,
}

impl PostgresStore {
    /// A store on this pool, in the default tables.
    ///
    /// # Errors
    ///
    /// None with the default names.
    pub fn new(pool: PgPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// The same in tables of other names.
    ///
    /// # Errors
    ///
    /// Names that do not fit the dialect.
    pub fn with_tables(pool: PgPool, tables: &Tables) -> Result<Self, MigrateError> {
        let statement = |sql| Statement::new(sql, tables, Dialect::Postgres);
        let statements = Statements {
            migrations: Migrations::new("rate_limiter", STEPS, tables, Dialect::Postgres)?,
            one: statement(ONE)?,
            lock: statement(LOCK)?,
            select: statement(SELECT)?,
            write: statement(WRITE)?,
            forget: statement(FORGET)?,
            prune: statement(PRUNE)?,
        };
        Ok(Self {
            pool,
            statements: Arc::new(statements),
        })
    }

    /// Makes the table, or brings it up to date.
    ///
    /// # Errors
    ///
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.statements.migrations.migrate(&self.pool).await
    }

    /// Whether the table is as it must be.
    ///
    /// # Errors
    ///
    /// [`MigrateError`], which says what is missing.
    pub async fn check(&self) -> Result<(), MigrateError> {
        self.statements.migrations.check(&self.pool).await
    }

    /// What makes the table: its SQL can be printed, for people with a tool of their own.
    #[must_use]
    pub fn migrations(&self) -> &Migrations {
        &self.statements.migrations
    }

    async fn look(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let select = sqlx::query_as::<_, Timed>(&self.statements.select).bind(key.as_bytes());
        let held = select.fetch_one(&mut *loan);
        let (now, held) = timed(deadline.run(Phase::Read, held).await?);
        loan.give_back();
        Ok(ask.decide(&row::slots(held.as_ref()), now).answer)
    }

    /// One bucket, one statement; `None` when the row is of another quota, or just came to be.
    async fn at_once(
        &self,
        key: &Key,
        ask: &Ask,
        bucket: &Bucket,
        step: u64,
        price: u64,
        deadline: Deadline,
    ) -> Result<Option<Answer>, StoreError> {
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let one = sqlx::query_as::<_, (i64, bool, i64, i64, i64)>(&self.statements.one)
            .bind(key.as_bytes())
            .bind(signed(bucket.cost))
            .bind(signed(bucket.length))
            .bind(signed(bucket.gain))
            .bind(signed(bucket.most))
            .bind(signed(step))
            .bind(signed(price))
            .fetch_optional(&mut *loan);
        let row = deadline.run(Phase::Statement, one).await?;
        loan.give_back();
        Ok(row.and_then(|(now, taken, unit, seen, level)| {
            let slot = Slot {
                unit,
                seen,
                level,
                before: 0,
            };
            let now = Micros::new(now);
            if taken {
                return Some(ask.answer(&[slot], now, ask.permits()));
            }
            let decided = ask.decide(&[slot], now);
            // It was refused by what another wrote since; what this one saw would allow.
            let stale = unit != signed(bucket.cost) || decided.slots.is_some();
            (!stale).then_some(decided.answer)
        }))
    }

    async fn once(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let statements = &*self.statements;
        let mut transaction =
            Guarded::begin_at(Isolation::ReadCommitted, &self.pool, deadline).await?;
        let work = async {
            let phase = Phase::InTransaction;
            let lock = sqlx::query_as::<_, Timed>(&statements.lock).bind(key.as_bytes());
            let held = lock.fetch_one(&mut *transaction);
            let (now, held) = timed(deadline.run(phase, held).await?);
            let decided = ask.decide(&row::slots(held.as_ref()), now);
            if let Some(slots) = &decided.slots {
                let first = slots.first().copied().unwrap_or_default();
                let write = sqlx::query(&statements.write)
                    .bind(first.unit)
                    .bind(first.seen)
                    .bind(first.level)
                    .bind(first.before)
                    .bind(row::others(slots))
                    .bind((now + decided.life).get())
                    .bind(key.as_bytes())
                    .execute(&mut *transaction);
                deadline.run(phase, write).await?;
            }
            Ok((decided.answer, decided.slots.is_some()))
        };
        match work.await {
            Ok((answer, true)) => transaction.commit().await.map(|()| answer),
            Ok((answer, false)) => transaction.rollback().await.map(|()| answer),
            Err(error) => transaction.finish(Err(error)).await,
        }
    }
}

/// The server's time, and the row; a row without a unit was only made to be locked.
fn timed((now, unit, seen, level, before, others): Timed) -> (Micros, Option<Row>) {
    let row = match (unit, seen, level, before) {
        (Some(unit), Some(seen), Some(level), Some(before)) if unit != 0 => {
            Some((unit, seen, level, before, others))
        }
        _ => None,
    };
    (Micros::new(now), row)
}

#[async_trait]
impl Store for PostgresStore {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        if !ask.writes() {
            return self.look(key, ask, deadline).await;
        }
        if let [Rule::Bucket { bucket, step }] = ask.plan().rules()
            && ask.what()
                == (What::Take {
                    least: ask.permits(),
                })
            && let Some(price) = bucket.price(ask.permits()).filter(|price| *price > 0)
        {
            debug_assert!(
                unit(&ask.plan().rules()[0]) > 0,
                "a bucket's unit is its cost"
            );
            let taken = self.at_once(key, ask, bucket, *step, price, deadline);
            match taken.await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // At an isolation level above READ COMMITTED it can get into another's way.
                Err(error) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error),
            }
        }
        let mut again = AGAIN;
        loop {
            match self.once(key, ask, deadline).await {
                Err(error) if error.kind() == StoreErrorKind::Contended && again > 0 => again -= 1,
                result => return result,
            }
        }
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let delete = sqlx::query(&self.statements.forget).bind(key.as_bytes());
        let delete = delete.execute(&mut *loan);
        deadline.run(Phase::Statement, delete).await?;
        loan.give_back();
        Ok(())
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let delete = sqlx::query(&self.statements.prune).bind(i64::from(most));
        let delete = delete.execute(&mut *loan);
        let gone = deadline.run(Phase::Statement, delete).await?;
        loan.give_back();
        Ok(gone.rows_affected())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
