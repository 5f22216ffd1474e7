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
            "SELECT epoch, token, fingerprint, state, lease_until, expires_at, outcome,
                progress, ",
            now!(),
            " FROM {schema}{prefix}idempotency WHERE id = ?"
        )
    };
}

const INSERT: &str = concat!(
    "INSERT INTO {schema}{prefix}idempotency
        (id, epoch, token, fingerprint, state, lease_until, expires_at, request, due_at, driver)
    VALUES (?, 1, ?, ?, 0, ",
    now!(),
    " + ?, ",
    now!(),
    " + ?, ?, ",
    now!(),
    " + ?, ?)"
);

const READ: &str = columns!();

/// A row that another holds locked is left out: he is just writing how it ended.
const LOCK: &str = concat!(columns!(), " FOR UPDATE SKIP LOCKED");

/// Of the first epoch nothing of an earlier record stays. `request` comes last: columns are set from
/// left to right, and what is set is seen.
const TAKE_OVER: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET epoch = ?, token = ?, fingerprint = ?, state = 0,
        lease_until = ",
    now!(),
    " + ?, expires_at = ",
    now!(),
    " + ?, outcome = NULL,
        progress = IF(? = 1, NULL, progress), drives = IF(? = 1, 0, drives),
        due_at = IF(? > 1 AND request IS NOT NULL, due_at, ",
    now!(),
    " + ?),
        driver = IF(? > 1 AND request IS NOT NULL, driver, ?),
        request = IF(? > 1 AND request IS NOT NULL, request, ?)
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
        progress = NULL, request = NULL, due_at = NULL, expires_at = GREATEST(expires_at, ",
    now!(),
    " + ?)
    WHERE id = ? AND epoch = ? AND token = ?"
);

const REMOVE: &str = "DELETE FROM {schema}{prefix}idempotency
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2 AND progress IS NULL";

const RELEASE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 1, request = NULL, due_at = NULL, drives = 0,
        lease_until = ",
    now!(),
    "
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2"
);

const HAND_BACK: &str = concat!(
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
    " - lease_until, drives, request IS NOT NULL AND due_at IS NULL
    FROM {schema}{prefix}idempotency
    WHERE state < 2 AND expires_at > ",
    now!(),
    " AND lease_until <= ",
    now!(),
    " - ?
    ORDER BY lease_until LIMIT ?"
);

/// Strict: what is there already was put there by another transaction, with its writes. Who gets on
/// is not driven in vain: the drives are counted from zero again, and a last one was not the last.
const CHECKPOINT_IN: &str = "UPDATE {schema}{prefix}idempotency SET progress = ?, drives = 0,
        due_at = COALESCE(due_at, IF(request IS NOT NULL, lease_until, NULL))
    WHERE COALESCE(OCTET_LENGTH(progress), 0) = ?
        AND id = ? AND epoch = ? AND token = ? AND state < 2";

/// What is there already was put there by this same statement, whose answer was lost.
const CHECKPOINT: &str = "UPDATE {schema}{prefix}idempotency SET progress = ?, drives = 0,
        due_at = COALESCE(due_at, IF(request IS NOT NULL, lease_until, NULL))
    WHERE (COALESCE(OCTET_LENGTH(progress), 0) = ? OR progress = ?)
        AND id = ? AND epoch = ? AND token = ? AND state < 2";

macro_rules! due {
    () => {
        concat!(
            "driver = ? AND due_at <= ",
            now!(),
            " AND lease_until <= ",
            now!(),
            " - ? AND state < 2 AND request IS NOT NULL AND expires_at > ",
            now!()
        )
    };
}

/// Found without a lock and then locked by its key, in the order in which everybody else does.
const ORPHANS: &str = concat!(
    "SELECT id FROM {schema}{prefix}idempotency WHERE ",
    due!(),
    " ORDER BY due_at LIMIT 16"
);

/// Who is being completed or claimed just now is passed by.
const ORPHAN: &str = concat!(
    "SELECT id, epoch, fingerprint, request, progress, drives
    FROM {schema}{prefix}idempotency WHERE ",
    due!(),
    " AND id = ? FOR UPDATE SKIP LOCKED"
);

const ADOPT: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET epoch = ?, token = ?, state = 0, lease_until = ",
    now!(),
    " + ?,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + ?), drives = ?, due_at = ",
    now!(),
    " + ?
    WHERE id = ?"
);

/// What has no request any more is never due: its handler has released it.
const POSTPONE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET due_at = IF(request IS NOT NULL, ",
    now!(),
    " + ?, NULL),
        drives = GREATEST(drives - ?, 0), state = IF(?, 1, state),
        lease_until = IF(?, ",
    now!(),
    ", lease_until)
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2"
);

const UNPARK: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET due_at = ",
    now!(),
    ", drives = 0
    WHERE id = ? AND state < 2 AND request IS NOT NULL AND expires_at > ",
    now!()
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
    pub(super) release: Statement,
    pub(super) hand_back: Statement,
    pub(super) doubt: Statement,
    pub(super) expired: Statement,
    pub(super) reap: Statement,
    pub(super) unfinished: Statement,
    pub(super) checkpoint_in: Statement,
    pub(super) checkpoint: Statement,
    pub(super) orphans: Statement,
    pub(super) orphan: Statement,
    pub(super) adopt: Statement,
    pub(super) postpone: Statement,
    pub(super) unpark: Statement,
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
            release: render(RELEASE)?,
            hand_back: render(HAND_BACK)?,
            doubt: render(DOUBT)?,
            expired: render(EXPIRED)?,
            reap: render(REAP)?,
            unfinished: render(UNFINISHED)?,
            checkpoint_in: render(CHECKPOINT_IN)?,
            checkpoint: render(CHECKPOINT)?,
            orphans: render(ORPHANS)?,
            orphan: render(ORPHAN)?,
            adopt: render(ADOPT)?,
            postpone: render(POSTPONE)?,
            unpark: render(UNPARK)?,
            take: render(TAKE)?,
            take_expired: render(TAKE_EXPIRED)?,
        })
    }
}
