//! What keeps a trait to the types that are listed here.

/// Implemented for what a sealed trait is for, and nameable by nobody else.
#[expect(unnameable_types, reason = "that is what seals a trait")]
pub trait Sealed {}

impl Sealed for crate::StoreError {}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl Sealed for sqlx::Error {}

#[cfg(feature = "redis")]
impl Sealed for redis::RedisError {}

#[cfg(feature = "postgres")]
impl Sealed for sqlx::Postgres {}
#[cfg(feature = "postgres")]
impl Sealed for sqlx::PgConnection {}
#[cfg(feature = "postgres")]
impl Sealed for sqlx::postgres::PgPoolOptions {}

#[cfg(feature = "mysql")]
impl Sealed for sqlx::MySql {}
#[cfg(feature = "mysql")]
impl Sealed for sqlx::MySqlConnection {}
#[cfg(feature = "mysql")]
impl Sealed for sqlx::mysql::MySqlPoolOptions {}

#[cfg(feature = "sqlite")]
impl Sealed for sqlx::Sqlite {}
#[cfg(feature = "sqlite")]
impl Sealed for sqlx::SqliteConnection {}
