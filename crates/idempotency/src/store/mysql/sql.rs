//! The statements, in the SQL that MySQL 8 and MariaDB share.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The server's clock; [`Dialect::now_micros`] as a literal.
macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
    };
}

/// A record and the time, as [`super::record`] reads it.
macro_rules! columns {
    () => {
        concat!(
            "SELECT epoch, token, fingerprint, state, lease_until, expires_at, outcome, ",
            now!(),
            " FROM {schema}{prefix}idempotency WHERE id = ?"
        )
    };
}

const INSERT: &str = concat!(
    "INSERT INTO {schema}{prefix}idempotency
        (id, epoch, token, fingerprint, state, lease_until, expires_at)
    VALUES (?, 1, ?, ?, 0, ",
    now!(),
    " + ?, ",
    now!(),
    " + ?)"
);

const READ: &str = columns!();

/// A row that another holds locked is left out: he is just writing how it ended.
const LOCK: &str = concat!(columns!(), " FOR UPDATE SKIP LOCKED");

const TAKE_OVER: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET epoch = ?, token = ?, fingerprint = ?, state = 0,
        lease_until = ",
    now!(),
    " + ?, expires_at = ",
    now!(),
    " + ?, outcome = NULL
    WHERE id = ?"
);

const EXTEND: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET lease_until = ",
    now!(),
    " + ?,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + ?)
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2"
);

const COMPLETE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 2, outcome = ?,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + ?)
    WHERE id = ? AND epoch = ? AND token = ?"
);

const REMOVE: &str = "DELETE FROM {schema}{prefix}idempotency
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const FREE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 1, lease_until = ",
    now!(),
    "
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2"
);

const DOUBT: &str = "UPDATE {schema}{prefix}idempotency SET state = 1
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

/// Found without a lock, and then removed by its key: what went by the index of times would lock
/// index and row in another order than everybody else does, and be a deadlock for them.
const EXPIRED: &str = concat!(
    "SELECT id FROM {schema}{prefix}idempotency WHERE expires_at <= ",
    now!(),
    " ORDER BY expires_at LIMIT ?"
);

const REAP: &str = concat!(
    "DELETE FROM {schema}{prefix}idempotency WHERE id = ? AND expires_at <= ",
    now!()
);

const UNFINISHED: &str = concat!(
    "SELECT id, epoch, ",
    now!(),
    " - lease_until FROM {schema}{prefix}idempotency
    WHERE state < 2 AND expires_at > ",
    now!(),
    " AND lease_until <= ",
    now!(),
    " - ?
    ORDER BY lease_until LIMIT ?"
);

const TAKE: &str = concat!(
    "INSERT INTO {schema}{prefix}idempotency
        (id, epoch, token, fingerprint, state, lease_until, expires_at, outcome)
    VALUES (?, 1, ?, ?, 2, 0, ",
    now!(),
    " + ?, '')"
);

const TAKE_EXPIRED: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET token = ?, state = 2, outcome = '',
        expires_at = ",
    now!(),
    " + ?
    WHERE id = ? AND expires_at <= ",
    now!()
);

pub(super) struct Sql {
    pub(super) insert: Statement,
    pub(super) read: Statement,
    pub(super) lock: Statement,
    pub(super) take_over: Statement,
    pub(super) extend: Statement,
    pub(super) complete: Statement,
    pub(super) remove: Statement,
    pub(super) free: Statement,
    pub(super) doubt: Statement,
    pub(super) expired: Statement,
    pub(super) reap: Statement,
    pub(super) unfinished: Statement,
    pub(super) take: Statement,
    pub(super) take_expired: Statement,
}

impl Sql {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::MySql);
        Ok(Self {
            insert: render(INSERT)?,
            read: render(READ)?,
            lock: render(LOCK)?,
            take_over: render(TAKE_OVER)?,
            extend: render(EXTEND)?,
            complete: render(COMPLETE)?,
            remove: render(REMOVE)?,
            free: render(FREE)?,
            doubt: render(DOUBT)?,
            expired: render(EXPIRED)?,
            reap: render(REAP)?,
            unfinished: render(UNFINISHED)?,
            take: render(TAKE)?,
            take_expired: render(TAKE_EXPIRED)?,
        })
    }
}
