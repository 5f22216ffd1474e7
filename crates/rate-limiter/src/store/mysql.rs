//! MySQL and MariaDB: one short transaction a decision, by the server's clock.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Guarded, Isolation, Key, Loan, Micros, MigrateError, Migration, Migrations,
    Phase, Statement, StoreError, StoreErrorKind, Tables,
};
use sqlx::MySqlPool;

use super::{
    Answer, Ask, Slot, Store, What,
    row::{self, Row},
    signed,
};
use crate::machine::Bucket;

const STEPS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/mysql/1_rate_limits.sql"),
)];
/// One decision of one bucket, in one statement of its own. What it comes to is the statement's insert id:
/// what is owed then, times four, and 3 where it was given, 2 where not; 1 where it is not for this statement
/// to say (the row is of another quota, or of another clock); none where the row is new.
///
/// Assignments are made from left to right. A bucket has no use for `before`, so the ruling is held there
/// until the others have read it. One who is refused changes nothing, so nothing is written for him.
const TAKE: &str = "INSERT INTO {schema}{prefix}rate_limits \
     (`key`, unit, seen, level, `before`, others, expires) \
     VALUES (?, ?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)), ?, 0, NULL, \
     TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) + ? + 1000000) \
     ON DUPLICATE KEY UPDATE \
     `before` = IF(unit <> ? OR seen - TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) > ?, \
     `before` + 0 * LAST_INSERT_ID(1), \
     LAST_INSERT_ID(IF(GREATEST(0, level - GREATEST(0, LEAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) - seen, ?)) * ?) + ? <= ?, \
     (GREATEST(0, level - GREATEST(0, LEAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) - seen, ?)) * ?) + ?) * 4 + 3, \
     GREATEST(0, level - GREATEST(0, LEAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) - seen, ?)) * ?) * 4 + 2))), \
     level = IF(unit = ? AND `before` & 3 = 3, `before` >> 2, level), \
     seen = IF(unit = ? AND `before` & 3 = 3, GREATEST(seen, TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))), seen), \
     expires = IF(unit = ? AND `before` & 3 = 3, seen + (level + ? - 1) DIV ? + 1000000, expires), \
     `before` = IF(unit = ?, 0, `before`)";
/// Makes the row, or locks it as it is.
const LOCK: &str = "INSERT INTO {schema}{prefix}rate_limits \
     (`key`, unit, seen, level, `before`, others, expires) VALUES (?, 0, 0, 0, 0, NULL, 0) \
     ON DUPLICATE KEY UPDATE seen = seen";
/// After the lock is held, so no other's work is newer than this time.
const SELECT: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)), \
     unit, seen, level, `before`, others FROM {schema}{prefix}rate_limits WHERE `key` = ?";
const NOW: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))";
const WRITE: &str = "UPDATE {schema}{prefix}rate_limits SET unit = ?, seen = ?, level = ?, \
     `before` = ?, others = ?, expires = ? WHERE `key` = ?";
const FORGET: &str = "DELETE FROM {schema}{prefix}rate_limits WHERE `key` = ?";
const PRUNE: &str = "DELETE FROM {schema}{prefix}rate_limits \
     WHERE expires < TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) \
     ORDER BY expires LIMIT ?";

/// How often a decision that got into another's way is made anew.
const AGAIN: u32 = 3;

type Timed = (i64, i64, i64, i64, i64, Option<String>);

/// A store on MySQL or MariaDB, by the server's clock: one statement a decision for one token bucket, else one
/// short transaction.
#[derive(Clone)]
pub struct MySqlStore {
    pool: MySqlPool,
    statements: Arc<Statements>,
}

struct Statements {
    migrations: Migrations,
    take: Statement,
    lock: Statement,
    select: Statement,
    write: Statement,
    forget: Statement,
    prune: Statement,
}

impl MySqlStore {
    /// A store on this pool, in the default tables.
    ///
    /// # Errors
    ///
    /// None with the default names.
    pub fn new(pool: MySqlPool) -> Result<Self, MigrateError> {
        Self::with_tables(pool, &Tables::default())
    }

    /// The same in tables of other names.
    ///
    /// # Errors
    ///
    /// Names that do not fit the dialect.
    pub fn with_tables(pool: MySqlPool, tables: &Tables) -> Result<Self, MigrateError> {
        let statement = |sql| Statement::new(sql, tables, Dialect::MySql);
        let statements = Statements {
            migrations: Migrations::new("rate_limiter", STEPS, tables, Dialect::MySql)?,
            take: statement(TAKE)?,
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
        let held = select.fetch_optional(&mut *loan);
        let held = deadline.run(Phase::Read, held).await?;
        let (now, held) = match held {
            Some(held) => timed(held),
            None => {
                let now = sqlx::query_scalar(NOW).fetch_one(&mut *loan);
                (deadline.run(Phase::Read, now).await?, None)
            }
        };
        loan.give_back();
        Ok(ask
            .decide(&row::slots(held.as_ref()), Micros::new(now))
            .answer)
    }

    /// `None`, where the statement cannot decide.
    async fn take(
        &self,
        key: &Key,
        ask: &Ask,
        bucket: &Bucket,
        deadline: Deadline,
    ) -> Result<Option<Answer>, StoreError> {
        let (unit, price) = (signed(bucket.cost), bucket.price_or_all(ask.permits()));
        // No more is ever owed, so no longer a time pays more.
        let full = bucket.ceiling.div_ceil(bucket.gain);
        let (gain, full, price) = (signed(bucket.gain), signed(full), signed(price));
        let step = signed(bucket.full_ticks());
        let mut loan = Loan::acquire(&self.pool, deadline).await?;
        let take = sqlx::query(&self.statements.take)
            .bind(key.as_bytes())
            .bind(unit)
            .bind(price)
            .bind(signed(
                bucket.price_or_all(ask.permits()).div_ceil(bucket.gain),
            ))
            // The row's ruling.
            .bind(unit)
            .bind(step)
            .bind(full)
            .bind(gain)
            .bind(price)
            .bind(signed(bucket.most))
            .bind(full)
            .bind(gain)
            .bind(price)
            .bind(full)
            .bind(gain)
            // What becomes of the row.
            .bind(unit)
            .bind(unit)
            .bind(unit)
            .bind(gain)
            .bind(gain)
            .bind(unit)
            .execute(&mut *loan);
        let taken = deadline.run(Phase::Statement, take).await?;
        loan.give_back();
        let (level, granted) = match taken.last_insert_id() {
            0 => (price, true),
            1 => return Ok(None),
            ruling => (
                i64::try_from(ruling >> 2).unwrap_or(i64::MAX),
                ruling & 3 == 3,
            ),
        };
        // Nothing that a bucket without steps says depends on what time it is.
        let (seen, before) = (1, 0);
        let slot = Slot {
            unit,
            seen,
            level,
            before,
        };
        let granted = if granted { ask.permits() } else { 0 };
        Ok(Some(ask.answer(&[slot], Micros::new(seen), granted)))
    }

    async fn once(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let statements = &*self.statements;
        let mut transaction =
            Guarded::begin_at(Isolation::ReadCommitted, &self.pool, deadline).await?;
        let work = async {
            let phase = Phase::InTransaction;
            let lock = sqlx::query(&statements.lock).bind(key.as_bytes());
            deadline.run(phase, lock.execute(&mut *transaction)).await?;
            let select = sqlx::query_as::<_, Timed>(&statements.select).bind(key.as_bytes());
            let held = select.fetch_one(&mut *transaction);
            let (now, held) = timed(deadline.run(phase, held).await?);
            let decided = ask.decide(&row::slots(held.as_ref()), Micros::new(now));
            if let Some(slots) = &decided.slots {
                let first = slots.first().copied().unwrap_or_default();
                let write = sqlx::query(&statements.write)
                    .bind(first.unit)
                    .bind(first.seen)
                    .bind(first.level)
                    .bind(first.before)
                    .bind(row::others(slots))
                    .bind((Micros::new(now) + decided.life).get())
                    .bind(key.as_bytes())
                    .execute(&mut *transaction);
                deadline.run(phase, write).await?;
            }
            Ok((decided.answer, decided.slots.is_some()))
        };
        match work.await {
            Ok((answer, true)) => transaction.commit().await.map(|()| answer),
            // The row that was made for the lock goes with it.
            Ok((answer, false)) => transaction.rollback().await.map(|()| answer),
            Err(error) => transaction.finish(Err(error)).await,
        }
    }
}

/// The one bucket of what is asked for, where one statement can decide it: refilled evenly, so that what it
/// says needs no time, and all or nothing is wanted of it.
fn alone(ask: &Ask) -> Option<&Bucket> {
    let bucket = ask.plan().single_bucket().filter(|it| it.length == 1)?;
    let whole = ask.what()
        == What::Take {
            least: ask.permits(),
        };
    let can_ever = bucket.price(ask.permits()).is_some();
    (whole && ask.permits() > 0 && can_ever).then_some(bucket)
}

/// The server's time, and the row; a row without a unit was only made to be locked.
fn timed((now, unit, seen, level, before, others): Timed) -> (i64, Option<Row>) {
    let row = (unit != 0).then_some((unit, seen, level, before, others));
    (now, row)
}

#[async_trait]
impl Store for MySqlStore {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        if !ask.writes() {
            return self.look(key, ask, deadline).await;
        }
        let mut again = AGAIN;
        while let Some(bucket) = alone(ask) {
            match self.take(key, ask, bucket, deadline).await {
                Err(error) if error.kind() == StoreErrorKind::Contended && again > 0 => again -= 1,
                Ok(None) => break,
                Ok(Some(answer)) => return Ok(answer),
                Err(error) => return Err(error),
            }
        }
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
        let delete = sqlx::query(&self.statements.prune).bind(most);
        let delete = delete.execute(&mut *loan);
        let gone = deadline.run(Phase::Statement, delete).await?;
        loan.give_back();
        Ok(gone.rows_affected())
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").finish_non_exhaustive()
    }
}
