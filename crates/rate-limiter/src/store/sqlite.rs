//! SQLite: one short transaction a decision, by this host's clock.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Dialect, Key, Loan, Micros, MigrateError, Migration, Migrations, Phase, Statement,
    StoreError, Tables, sqlite::Writer,
};

use super::{
    Answer, Ask, Store,
    row::{self, Row},
};

const STEPS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/sqlite/1_rate_limits.sql"),
)];
const SELECT: &str =
    "SELECT unit, seen, level, before, others FROM {prefix}rate_limits WHERE key = ?";
const WRITE: &str = "INSERT INTO {prefix}rate_limits (key, unit, seen, level, before, others, expires) \
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET unit = excluded.unit, \
     seen = excluded.seen, level = excluded.level, before = excluded.before, \
     others = excluded.others, expires = excluded.expires";
const FORGET: &str = "DELETE FROM {prefix}rate_limits WHERE key = ?";
const PRUNE: &str = "DELETE FROM {prefix}rate_limits WHERE key IN \
     (SELECT key FROM {prefix}rate_limits WHERE expires < ? LIMIT ?)";

/// A store on SQLite: for several processes of one host. One short transaction a decision; looking
/// takes no lock. Every decision that takes is a commit, as durable as the pool's options say: for limits,
/// `synchronous = NORMAL` is enough.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    statements: Arc<Statements>,
}

struct Statements {
    migrations: Migrations,
    select: Statement,
    write: Statement,
    forget: Statement,
    prune: Statement,
}

impl SqliteStore {
    /// A store that writes by `writer`, in the default tables.
    ///
    /// # Errors
    ///
    /// None with the default names.
    pub fn new(writer: Writer) -> Result<Self, MigrateError> {
        Self::with_tables(writer, &Tables::default())
    }

    /// The same in tables of other names.
    ///
    /// # Errors
    ///
    /// Names that do not fit the dialect.
    pub fn with_tables(writer: Writer, tables: &Tables) -> Result<Self, MigrateError> {
        let statement = |sql| Statement::new(sql, tables, Dialect::Sqlite);
        let statements = Statements {
            migrations: Migrations::new("rate_limiter", STEPS, tables, Dialect::Sqlite)?,
            select: statement(SELECT)?,
            write: statement(WRITE)?,
            forget: statement(FORGET)?,
            prune: statement(PRUNE)?,
        };
        Ok(Self {
            writer,
            statements: Arc::new(statements),
        })
    }

    /// Makes the table, or brings it up to date.
    ///
    /// # Errors
    ///
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.statements.migrations.migrate(self.writer.pool()).await
    }

    /// Whether the table is as it must be.
    ///
    /// # Errors
    ///
    /// [`MigrateError`], which says what is missing.
    pub async fn check(&self) -> Result<(), MigrateError> {
        self.statements.migrations.check(self.writer.pool()).await
    }

    /// What makes the table: its SQL can be printed, for people with a tool of their own.
    #[must_use]
    pub fn migrations(&self) -> &Migrations {
        &self.statements.migrations
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let statements = &*self.statements;
        if !ask.writes() {
            let mut loan = Loan::acquire(self.writer.pool(), deadline).await?;
            let select = sqlx::query_as::<_, Row>(&statements.select).bind(key.as_bytes());
            let held = select.fetch_optional(&mut *loan);
            let held = deadline.run(Phase::Read, held).await?;
            loan.give_back();
            return Ok(ask
                .decide(&row::slots(held.as_ref()), Micros::of_host())
                .answer);
        }
        let mut transaction = self.writer.begin(deadline).await?;
        let select = sqlx::query_as::<_, Row>(&statements.select).bind(key.as_bytes());
        let held = select.fetch_optional(&mut *transaction);
        let held = deadline.run(Phase::InTransaction, held).await?;
        let now = Micros::of_host();
        let decided = ask.decide(&row::slots(held.as_ref()), now);
        let Some(slots) = &decided.slots else {
            transaction.rollback().await?;
            return Ok(decided.answer);
        };
        let first = slots.first().copied().unwrap_or_default();
        let write = sqlx::query(&statements.write)
            .bind(key.as_bytes())
            .bind(first.unit)
            .bind(first.seen)
            .bind(first.level)
            .bind(first.before)
            .bind(row::others(slots))
            .bind((now + decided.life).get())
            .execute(&mut *transaction);
        deadline.run(Phase::InTransaction, write).await?;
        transaction.commit().await?;
        Ok(decided.answer)
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin(deadline).await?;
        let delete = sqlx::query(&self.statements.forget).bind(key.as_bytes());
        let delete = delete.execute(&mut *transaction);
        deadline.run(Phase::InTransaction, delete).await?;
        transaction.commit().await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        let mut transaction = self.writer.begin(deadline).await?;
        let delete = sqlx::query(&self.statements.prune)
            .bind(Micros::of_host().get())
            .bind(i64::from(most))
            .execute(&mut *transaction);
        let gone = deadline.run(Phase::InTransaction, delete).await?;
        transaction.commit().await?;
        Ok(gone.rows_affected())
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
