//! What can go wrong with the database, and what a caller may be told of it.

use std::{borrow::Cow, fmt, time::Duration};

use buttress_core::Fault;

/// Whether the database is away, or answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreErrorKind {
    /// It does not answer: refused, timed out, or still locked. Worth another try.
    Unavailable,
    /// It answered with an error: a defect of ours, or broken data.
    Broken,
}

/// A query that failed.
///
/// The driver's error is not its `source`, for drivers put rows and bound values into their
/// words, and sources are logged. What is safe of it, the code, is kept.
#[derive(thiserror::Error)]
#[error("{}{}", self.words(), self.code_in_brackets())]
pub(crate) struct StoreError {
    kind: StoreErrorKind,
    code: Option<String>,
}

impl StoreError {
    /// Data in the database that this program does not understand.
    pub(crate) fn unreadable(column: &'static str) -> Self {
        Self {
            kind: StoreErrorKind::Broken,
            code: Some(format!("unreadable {column}")),
        }
    }

    const fn words(&self) -> &'static str {
        match self.kind {
            StoreErrorKind::Unavailable => "the database does not answer",
            StoreErrorKind::Broken => "the database answered with an error",
        }
    }

    fn code_in_brackets(&self) -> String {
        self.code
            .as_ref()
            .map(|code| format!(" ({code})"))
            .unwrap_or_default()
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use StoreErrorKind::{Broken, Unavailable};
        match error {
            sqlx::Error::Io(error) => Self {
                kind: Unavailable,
                code: Some(error.kind().to_string()),
            },
            sqlx::Error::PoolTimedOut => Self {
                kind: Unavailable,
                code: Some("no connection in time".into()),
            },
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self {
                kind: Unavailable,
                code: None,
            },
            sqlx::Error::Tls(_) => Self {
                kind: Unavailable,
                code: Some("TLS".into()),
            },
            sqlx::Error::Database(error) => {
                let code = error.code().map(Cow::into_owned);
                let kind = if code.as_deref().is_some_and(is_outage) {
                    Unavailable
                } else {
                    Broken
                };
                Self { kind, code }
            }
            sqlx::Error::RowNotFound => Self {
                kind: Broken,
                code: Some("no row".into()),
            },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self {
                kind: Broken,
                code: Some("a column of another type".into()),
            },
            _ => Self {
                kind: Broken,
                code: None,
            },
        }
    }
}

/// Codes that say "not now" rather than "not so".
fn is_outage(code: &str) -> bool {
    // An SQLSTATE has five characters; SQLite's numbers have fewer, and its extended codes keep the
    // primary one in their low byte: 5 is BUSY, 6 is LOCKED.
    if code.len() < 5 {
        return code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, 5 | 6));
    }
    // PostgreSQL: connection exceptions, too many connections, shutting down or starting up,
    // and a statement that ran into its timeout.
    code.starts_with("08")
        || matches!(
            code,
            "53300" | "57P01" | "57P02" | "57P03" | "57014" | "55P03"
        )
}

impl Fault for StoreError {
    fn code(&self) -> &'static str {
        match self.kind {
            StoreErrorKind::Unavailable => "UNAVAILABLE",
            StoreErrorKind::Broken => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self.kind {
            StoreErrorKind::Unavailable => 503,
            StoreErrorKind::Broken => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self.kind {
            StoreErrorKind::Unavailable => "The shop cannot answer right now.".into(),
            StoreErrorKind::Broken => "Something went wrong on our side.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        (self.kind == StoreErrorKind::Unavailable).then_some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_lasts_is_an_outage_and_a_broken_rule_is_not() {
        for code in ["5", "517", "262", "08006", "57P01", "53300", "57014"] {
            assert!(is_outage(code), "{code}");
        }
        for code in ["1", "19", "2067", "23505", "42P01", "40001"] {
            assert!(!is_outage(code), "{code}");
        }
    }

    #[test]
    fn the_drivers_words_are_not_kept() {
        let secret = sqlx::Error::Decode("row holds p4ssw0rd".into());
        let error = StoreError::from(secret);
        for told in [
            error.to_string(),
            format!("{error:?}"),
            error.public_message().into_owned(),
        ] {
            assert!(!told.contains("p4ssw0rd"), "{told}");
        }
        assert!(std::error::Error::source(&error).is_none());
    }
}
