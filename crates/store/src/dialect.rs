//! Which SQL a database speaks.

use std::fmt;

/// Which SQL a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// MySQL 8 and MariaDB 10.6 or later: what both understand.
    MySql,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// An expression for the server's own clock, now and not at the transaction's start, in
    /// microseconds since 1970 as [`Micros`](crate::Micros) has them.
    ///
    /// `None` for SQLite: it runs in our own process, so it is told the time
    /// ([`Micros::of_host`](crate::Micros::of_host)).
    #[must_use]
    pub const fn now_micros(self) -> Option<&'static str> {
        match self {
            // now() and CURRENT_TIMESTAMP stand still from the transaction's start on.
            Self::Postgres => Some("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
            // UNIX_TIMESTAMP() would read its argument in the session's time zone.
            Self::MySql => {
                Some("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))")
            }
            Self::Sqlite => None,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::Sqlite => "SQLite",
        })
    }
}
