//! What every SQL store needs: statements, transactions safe to drop, hardened pools.

mod database;
mod guarded;
mod harden;
mod loan;
mod statement;

#[cfg(feature = "sqlite")]
pub mod sqlite;

/// How long a connection may take to come back to its pool. Nobody waits for it.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const RETURN: std::time::Duration = std::time::Duration::from_secs(1);

pub use self::{
    database::{Isolation, SqlDatabase},
    guarded::Guarded,
    harden::Harden,
    loan::Loan,
    statement::Statement,
};
