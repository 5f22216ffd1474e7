//! Why a schema is not what it should be.

use crate::{Dialect, NameError, StoreError};

/// Why migrations were not applied, or are found to be missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// Migrations are not applied.
    #[error(
        "the tables of {pattern} are not up to date: migrations {versions:?} are missing; call the store's `migrate()` once, or run the SQL that its `print()` gives"
    )]
    Missing {
        /// Whose.
        pattern: &'static str,
        /// Which.
        versions: Vec<i64>,
    },
    /// A migration was applied with another text than it has here. Nothing was done.
    #[error(
        "migration {version} of {pattern} was applied with another text than this program has: it is of another build"
    )]
    Changed {
        /// Whose.
        pattern: &'static str,
        /// Which.
        version: i64,
    },
    /// The versions do not rise.
    #[error("migration {version} of {pattern} does not come after the one before it")]
    Order {
        /// Whose.
        pattern: &'static str,
        /// Which.
        version: i64,
    },
    /// The migrations are written for another database than the pool is on.
    #[error("the migrations are for {planned}, the pool is on {found}")]
    WrongDialect {
        /// The migrations'.
        planned: Dialect,
        /// The pool's.
        found: Dialect,
    },
    /// A name does not fit the dialect.
    #[error("the tables cannot have these names")]
    Name(#[source] NameError),
    /// Others were at it until the deadline.
    #[error("another process is at the migrations, and was until the deadline")]
    Locked,
    /// The database did not do it. On MySQL the steps that are recorded stay.
    #[error("the migrations were not applied")]
    Store(#[from] StoreError),
}
