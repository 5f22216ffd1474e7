//! Migrations of a pattern's tables: numbered, recorded, run when the user asks and never else.

#[cfg(feature = "mysql")]
mod mysql;
mod plan;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::time::Duration;

use sqlx::Pool;

pub use self::plan::Migration;
use self::plan::{Plan, Recorded};
use crate::{Deadline, Dialect, MigrateError, NameError, SqlDatabase, Tables};

/// The migrations of one pattern, for one dialect and the user's choice of names.
///
/// What was applied is recorded in `{prefix}migrations (pattern, version, checksum, applied_at)`,
/// a table of the family's own: it stands beside `_sqlx_migrations` and shares no lock with it.
/// Versions that are recorded and not known here are left alone, for an older program may run
/// beside a newer one while it is rolled out.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_store::{Dialect, Migration, Migrations, Tables};
///
/// const NOTES: &[Migration] = &[
///     Migration::new(1, "CREATE TABLE {schema}{prefix}notes (id INTEGER PRIMARY KEY, note BLOB NOT NULL)"),
/// ];
/// let migrations = Migrations::new("notes", NOTES, &Tables::default(), Dialect::Sqlite)?;
/// # let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
/// assert!(migrations.check(&pool).await.is_err()); // it says what is missing, and how to get it
/// migrations.migrate(&pool).await?;
/// migrations.check(&pool).await?;
/// # Ok(()) }
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Migrations {
    plan: Plan,
}

impl Migrations {
    /// How long [`migrate`](Self::migrate) may take, others' turns included.
    pub const ALLOWED: Duration = Duration::from_secs(60);

    /// The migrations `steps` of `pattern`, in rising order of their versions.
    ///
    /// On MySQL each DDL statement commits by itself, so a step that was killed half-way is run
    /// again as a whole: its statements must be repeatable (`CREATE TABLE IF NOT EXISTS`).
    ///
    /// # Errors
    ///
    /// [`MigrateError::Name`] for names that do not fit the dialect, [`MigrateError::Order`] for
    /// versions that do not rise.
    pub fn new(
        pattern: &'static str,
        steps: &[Migration],
        tables: &Tables,
        dialect: Dialect,
    ) -> Result<Self, MigrateError> {
        let plan = Plan::new(pattern, steps, tables, dialect)?;
        Ok(Self { plan })
    }

    /// Applies what is missing, within [`ALLOWED`](Self::ALLOWED).
    ///
    /// Safe from many processes at once, and killed at any point: they take turns by a lock that
    /// goes with its connection, and the next one goes on where the last was. On PostgreSQL and
    /// SQLite all of it is one transaction, on MySQL each step is recorded once it is complete.
    ///
    /// Dropping the future stops it at the statement under way; run it again.
    ///
    /// # Errors
    ///
    /// [`MigrateError`]; after [`MigrateError::Changed`] nothing was done.
    pub async fn migrate<DB: MigratedDatabase>(&self, pool: &Pool<DB>) -> Result<(), MigrateError> {
        self.migrate_by(pool, Deadline::after(Self::ALLOWED)).await
    }

    /// The same with a deadline of one's own: for a large table that gets an index, say.
    ///
    /// # Errors
    ///
    /// As [`migrate`](Self::migrate).
    pub async fn migrate_by<DB: MigratedDatabase>(
        &self,
        pool: &Pool<DB>,
        deadline: Deadline,
    ) -> Result<(), MigrateError> {
        self.of_dialect::<DB>()?;
        DB::migrate(pool, &self.plan, deadline).await
    }

    /// Whether all is applied, by a read. For a program's start, and for health checks.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Missing`], which says what and how to get it; [`MigrateError::Changed`].
    pub async fn check<DB: MigratedDatabase>(&self, pool: &Pool<DB>) -> Result<(), MigrateError> {
        self.of_dialect::<DB>()?;
        let deadline = Deadline::after(Deadline::SQL);
        let recorded = DB::recorded(pool, &self.plan, deadline).await?;
        let missing = self.plan.missing(&recorded)?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(MigrateError::Missing {
            pattern: self.plan.pattern(),
            versions: missing.iter().map(|step| step.version()).collect(),
        })
    }

    /// The same SQL, for people with a tool of their own. It records what it applies, so
    /// [`check`](Self::check) is content afterwards. Run it once, as one transaction.
    #[must_use]
    pub fn print(&self) -> String {
        self.plan.print()
    }

    fn of_dialect<DB: SqlDatabase>(&self) -> Result<(), MigrateError> {
        if self.plan.dialect() == DB::DIALECT {
            return Ok(());
        }
        Err(MigrateError::WrongDialect {
            planned: self.plan.dialect(),
            found: DB::DIALECT,
        })
    }
}

/// A database on which migrations can be run. Sealed, as [`SqlDatabase`] is.
pub trait MigratedDatabase: SqlDatabase {
    /// Applies what is missing.
    #[doc(hidden)]
    fn migrate(
        pool: &Pool<Self>,
        plan: &Plan,
        deadline: Deadline,
    ) -> impl Future<Output = Result<(), MigrateError>> + Send;

    /// Reads what is recorded; nothing, when the table is absent.
    #[doc(hidden)]
    fn recorded(
        pool: &Pool<Self>,
        plan: &Plan,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Vec<Recorded>, MigrateError>> + Send;
}

impl From<NameError> for MigrateError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}
