//! The user's own connection, lent for one call: his transaction, our rows.

use std::{convert::Infallible, fmt, marker::PhantomData};

use crate::{Dialect, sealed::Sealed};

/// A connection that methods called `…_in` take: sqlx's `PgConnection`, `MySqlConnection` or
/// `SqliteConnection`, which a transaction of yours gives as `&mut *transaction`.
///
/// Sealed: these three are all there are.
///
/// What such a method does belongs to your transaction. It has no deadline of ours. Dropping its
/// future leaves the connection in the middle of a statement: roll the transaction back then.
#[cfg_attr(
    all(feature = "sqlite", not(docsrs)),
    doc = r#"
```
use buttress_store::{SqlConnection, StoreError, WrongDialect};
use sqlx::{Connection as _, SqliteConnection};

struct Notes; // a handle on SQLite

impl Notes {
    async fn append_in<C: SqlConnection>(&self, connection: &mut C, note: &str) -> Result<(), StoreError> {
        let connection = connection.lend().sqlite()?;
        let insert = sqlx::query("INSERT INTO notes VALUES (?)").bind(note);
        insert.execute(connection).await.map_err(StoreError::in_transaction)?;
        Ok(())
    }
}

# #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
# let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
# sqlx::query("CREATE TABLE notes (note TEXT)").execute(&mut connection).await?;
# sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&mut connection).await?;
let mut transaction = connection.begin().await?; // yours
sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut *transaction).await?;
Notes.append_in(&mut *transaction, "order 7").await?;
transaction.commit().await?; // both or neither
# Ok(()) }
```
"#
)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a connection of sqlx's that a store can write to",
    note = "of a transaction or a pooled connection pass `&mut *it`"
)]
pub trait SqlConnection: Sealed + Send {
    /// Which SQL it speaks.
    fn dialect(&self) -> Dialect;

    /// The connection with its type forgotten, so that a store can be taken as `dyn`.
    fn lend(&mut self) -> Lent<'_>;
}

/// A connection lent to a store, of a dialect that the store asks for.
pub struct Lent<'c> {
    inner: Inner<'c>,
}

/// Private, so a feature that somebody turns on adds no arm to anybody's match.
#[expect(
    dead_code,
    reason = "the last arm keeps the lifetime where no dialect is built in"
)]
enum Inner<'c> {
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    #[cfg(feature = "mysql")]
    MySql(&'c mut sqlx::MySqlConnection),
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
    Never(Infallible, PhantomData<&'c mut ()>),
}

impl<'c> Lent<'c> {
    /// Which SQL it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match &self.inner {
            #[cfg(feature = "postgres")]
            Inner::Postgres(_) => Dialect::Postgres,
            #[cfg(feature = "mysql")]
            Inner::MySql(_) => Dialect::MySql,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => Dialect::Sqlite,
            Inner::Never(never, _) => match *never {},
        }
    }

    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    const fn wrong(&self, expected: Dialect) -> WrongDialect {
        let found = self.dialect();
        WrongDialect { expected, found }
    }
}

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.dialect()).finish()
    }
}

/// A connection of another dialect than the handle's was passed to it. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is on {expected}, the connection on {found}")]
pub struct WrongDialect {
    expected: Dialect,
    found: Dialect,
}

impl WrongDialect {
    /// The store's.
    #[must_use]
    pub const fn expected(&self) -> Dialect {
        self.expected
    }

    /// The connection's.
    #[must_use]
    pub const fn found(&self) -> Dialect {
        self.found
    }
}

/// One dialect: its connection can be lent, and taken back by its type.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
macro_rules! dialect {
    ($feature:literal, $arm:ident, $connection:ty, $take:ident) => {
        #[cfg(feature = $feature)]
        #[cfg(feature = $feature)]
        impl SqlConnection for $connection {
            fn dialect(&self) -> Dialect {
                Dialect::$arm
            }

            fn lend(&mut self) -> Lent<'_> {
                Lent {
                    inner: Inner::$arm(self),
                }
            }
        }

        #[cfg(feature = $feature)]
        impl<'c> Lent<'c> {
            /// The connection, if it is of this dialect.
            ///
            /// # Errors
            ///
            /// [`WrongDialect`], when it is of another.
            pub fn $take(self) -> Result<&'c mut $connection, WrongDialect> {
                let wrong = self.wrong(Dialect::$arm);
                match self.inner {
                    Inner::$arm(connection) => Ok(connection),
                    _ => Err(wrong),
                }
            }
        }
    };
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
dialect!("postgres", Postgres, sqlx::PgConnection, postgres);
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
dialect!("mysql", MySql, sqlx::MySqlConnection, mysql);
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
dialect!("sqlite", Sqlite, sqlx::SqliteConnection, sqlite);
