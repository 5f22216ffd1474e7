#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod after_commit;
pub mod board;
pub mod class;
mod connection;
mod dialect;
mod error;
mod gate;
mod key;
mod lease;
mod name;
#[cfg(feature = "redis")]
mod redis;
mod sealed;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod migrate;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use self::migrate::{MigratedDatabase, Migration, Migrations};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnection, RedisKeys, RedisPrefixError, Script, Ttl};
#[cfg(feature = "sqlite")]
pub use self::sql::sqlite;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use self::sql::{Guarded, Harden, Isolation, Loan, SqlDatabase, Statement};
pub use self::{
    after_commit::AfterCommit,
    class::{Judgement, Phase, StoreErrorKind},
    connection::{Lent, SqlConnection, WrongDialect},
    dialect::Dialect,
    error::{DriverError, MigrateError, StoreError},
    gate::{Deadline, Gate, GateError},
    key::{Key, KeyError},
    lease::{Claim, Fence, Lease, LeaseLost, LeaseTerms, LeaseTermsError, Token},
    name::{Name, NameError, Tables},
    time::Micros,
};
