//! What an error says: its kind, and whether the work was done.
//!
//! Each row of these tables was produced by a real server, in `tests/it/class/`.
#![doc = include_str!("table.md")]

mod classify;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::borrow::Cow;

use buttress_core::{Class, Verdict};

#[cfg(feature = "redis")]
pub use self::classify::ByRedis;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use self::classify::BySqlx;
pub use self::classify::ByStore;
#[cfg(feature = "redis")]
pub use self::redis::of_redis;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use self::sql::of_sqlx;

/// How far the work had come when the error struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// A connection was being got. Nothing had been sent.
    Connect,
    /// Something without an effect was under way: a read, a lock that goes with its connection.
    Read,
    /// A statement of an open transaction was under way. Without its commit it has no effect.
    /// That holds for what the database takes back: on MySQL not for DDL, nor for `MyISAM` tables.
    InTransaction,
    /// A statement or script with an effect of its own was under way.
    Statement,
    /// A commit was under way.
    Commit,
}

impl Phase {
    /// What is known when the connection goes, or the time runs out, in this phase.
    const fn when_lost(self) -> Verdict {
        match self {
            Self::Connect | Self::Read | Self::InTransaction => Verdict::not_done(),
            // Of commits that are cut, about half have been done.
            Self::Statement | Self::Commit => Verdict::unknown(),
        }
    }
}

/// What went wrong, whatever the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No server was reached that takes this work: refused, starting, loading, failing over.
    Unreachable,
    /// The connection went, or the server ended it, while work was under way.
    Lost,
    /// Our deadline struck.
    Deadline,
    /// The store is left alone after a deadline struck; nothing was sent.
    LeftAlone,
    /// There is no connection, memory or time to be had for it right now.
    Overloaded,
    /// Disk, table or memory is full.
    Full,
    /// It got into another's way: deadlock, serialization failure, lock not to be had.
    Contended,
    /// The server takes no writes: a replica, or a primary that was made one.
    ReadOnly,
    /// Somebody stopped it: a cancel request, the server's own time limit.
    Interrupted,
    /// There is a row with that key already.
    Duplicate,
    /// Another constraint refused it.
    Constraint,
    /// A value did not fit its column, or an argument its command.
    Value,
    /// There is no such row.
    NotFound,
    /// The login or a right is missing.
    Denied,
    /// Statement and database do not fit: a missing table, a syntax error, damaged data.
    Broken,
    /// It was used wrongly: a closed pool, a failed transaction, a connection of another dialect.
    Misused,
}

impl StoreErrorKind {
    /// Whether the store did not answer, or was not asked: whoever asks next would wait in vain as
    /// well.
    #[must_use]
    pub const fn is_away(self) -> bool {
        matches!(
            self,
            Self::Deadline | Self::LeftAlone | Self::Lost | Self::Unreachable
        )
    }

    /// What to do about it, when it struck in `phase`.
    pub(crate) const fn verdict(self, phase: Phase) -> Verdict {
        match self {
            Self::Lost | Self::Deadline => phase.when_lost(),
            Self::Unreachable
            | Self::LeftAlone
            | Self::Overloaded
            | Self::Full
            | Self::Contended
            | Self::ReadOnly
            | Self::Interrupted => Verdict::not_done(),
            Self::Duplicate | Self::Constraint | Self::Value | Self::NotFound => Verdict::refused(),
            Self::Denied | Self::Broken => Verdict::broken(),
            Self::Misused => Verdict::ignored(),
        }
    }

    /// The kind in a few words, for a log.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "no server was reached",
            Self::Lost => "the connection was lost",
            Self::Deadline => "the deadline struck",
            Self::LeftAlone => "the store is left alone after a deadline struck",
            Self::Overloaded => "the store is overloaded",
            Self::Full => "the store is full",
            Self::Contended => "another was in the way",
            Self::ReadOnly => "the server takes no writes",
            Self::Interrupted => "it was interrupted",
            Self::Duplicate => "the key is taken",
            Self::Constraint => "a constraint refused it",
            Self::Value => "a value was refused",
            Self::NotFound => "there is no such row",
            Self::Denied => "a right is missing",
            Self::Broken => "statement and database do not fit",
            Self::Misused => "it was used wrongly",
        }
    }
}

/// The judgement on a driver's error: kind, verdict, and the server's own code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub(crate) kind: StoreErrorKind,
    pub(crate) verdict: Verdict,
    pub(crate) code: Option<Cow<'static, str>>,
}

impl Judgement {
    /// What `kind` means in `phase`.
    pub(crate) const fn new(kind: StoreErrorKind, phase: Phase) -> Self {
        Self {
            kind,
            verdict: kind.verdict(phase),
            code: None,
        }
    }

    /// The same, though the answer leaves open whether it was done.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    const fn undecided(mut self) -> Self {
        self.verdict = Verdict::unknown();
        self
    }

    /// The same, for good: trying again is pointless.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    const fn for_good(mut self) -> Self {
        self.verdict = Verdict::broken();
        self
    }

    #[cfg(any(
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "sqlite"
    ))]
    fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// What to do: the outcome for a breaker, the class for a retry.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What is known about the effect.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.verdict.class()
    }

    /// The server's code: an SQLSTATE, a MySQL number, an SQLite result code, Redis' own first
    /// word, and none that a script made up.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}
