//! The statements, in the SQL of SQLite.

use buttress_store::{Dialect, NameError, Statement, Tables};

const READ: &str = "SELECT epoch, token, fingerprint, state, lease_until, expires_at, outcome,
        progress FROM {prefix}idempotency WHERE id = ?";

const INSERT: &str = "INSERT OR IGNORE INTO {prefix}idempotency
    (id, epoch, token, fingerprint, state, lease_until, expires_at, request, due_at, driver)
    VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, CASE WHEN ?7 IS NOT NULL THEN ?5 END, ?8)";

/// Of the first epoch nothing of an earlier record stays.
const CLAIM: &str = "INSERT INTO {prefix}idempotency
    (id, epoch, token, fingerprint, state, lease_until, expires_at, request, due_at, driver)
    VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, CASE WHEN ?7 IS NOT NULL THEN ?5 END, ?8)
    ON CONFLICT (id) DO UPDATE SET epoch = ?2, token = ?3, fingerprint = ?4, state = 0,
        lease_until = ?5, expires_at = ?6, outcome = NULL,
        progress = CASE WHEN ?2 > 1 THEN progress END,
        drives = CASE WHEN ?2 > 1 THEN drives ELSE 0 END,
        request = CASE WHEN ?2 > 1 AND request IS NOT NULL THEN request ELSE ?7 END,
        due_at = CASE WHEN ?2 > 1 AND request IS NOT NULL THEN due_at ELSE excluded.due_at END,
        driver = CASE WHEN ?2 > 1 AND request IS NOT NULL THEN driver ELSE ?8 END";

const EXTEND: &str = "UPDATE {prefix}idempotency SET lease_until = ?,
        expires_at = MAX(expires_at, ?)
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const COMPLETE: &str = "UPDATE {prefix}idempotency SET state = 2, outcome = ?,
        progress = NULL, request = NULL, due_at = NULL, expires_at = MAX(expires_at, ?)
    WHERE id = ? AND epoch = ? AND token = ?";

const REMOVE: &str = "DELETE FROM {prefix}idempotency
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2 AND progress IS NULL";

const RELEASE: &str = "UPDATE {prefix}idempotency SET state = 1, lease_until = ?,
        request = NULL, due_at = NULL, drives = 0
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const HAND_BACK: &str = "UPDATE {prefix}idempotency SET state = 1, lease_until = ?
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const DOUBT: &str = "UPDATE {prefix}idempotency SET state = 1
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const REAP: &str = "DELETE FROM {prefix}idempotency WHERE id IN (
    SELECT id FROM {prefix}idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)";

const UNFINISHED: &str = "SELECT id, epoch, ?1 - lease_until, drives,
        request IS NOT NULL AND due_at IS NULL FROM {prefix}idempotency
    WHERE state < 2 AND expires_at > ?1 AND lease_until <= ?2 ORDER BY lease_until LIMIT ?3";

/// Strict: what is there already was put there by another transaction, with its writes. Who gets on
/// is not driven in vain: the drives are counted from zero again, and a last one was not the last.
const CHECKPOINT_IN: &str = "UPDATE {prefix}idempotency SET progress = ?, drives = 0,
        due_at = COALESCE(due_at, CASE WHEN request IS NOT NULL THEN lease_until END)
    WHERE COALESCE(LENGTH(progress), 0) = ?
        AND id = ? AND epoch = ? AND token = ? AND state < 2";

/// What is there already was put there by this same statement, whose answer was lost.
const CHECKPOINT: &str = "UPDATE {prefix}idempotency SET progress = ?, drives = 0,
        due_at = COALESCE(due_at, CASE WHEN request IS NOT NULL THEN lease_until END)
    WHERE (COALESCE(LENGTH(progress), 0) = ? OR progress = ?)
        AND id = ? AND epoch = ? AND token = ? AND state < 2";

/// By the clock, and by the end of leases that are over for long enough.
const ORPHAN: &str = "SELECT id, epoch, fingerprint, request, progress, drives
    FROM {prefix}idempotency
    WHERE driver = ?3 AND due_at <= ?1 AND lease_until <= ?2 AND state < 2
        AND request IS NOT NULL AND expires_at > ?1
    ORDER BY due_at LIMIT 1";

const ADOPT: &str = "UPDATE {prefix}idempotency SET epoch = ?, token = ?, state = 0,
        lease_until = ?, expires_at = MAX(expires_at, ?), drives = ?, due_at = ?
    WHERE id = ?";

/// What has no request any more is never due: its handler has released it.
const POSTPONE: &str = "UPDATE {prefix}idempotency
    SET due_at = CASE WHEN request IS NOT NULL THEN ? END,
        drives = MAX(drives - ?, 0), state = COALESCE(?, state),
        lease_until = COALESCE(?, lease_until)
    WHERE id = ? AND epoch = ? AND token = ? AND state < 2";

const UNPARK: &str = "UPDATE {prefix}idempotency SET due_at = ?1, drives = 0
    WHERE id = ?2 AND state < 2 AND request IS NOT NULL AND expires_at > ?1";

const TAKE: &str = "INSERT INTO {prefix}idempotency
        (id, epoch, token, fingerprint, state, lease_until, expires_at, outcome)
    VALUES (?1, 1, ?2, ?3, 2, 0, ?4, x'')
    ON CONFLICT (id) DO UPDATE SET token = ?2, state = 2, expires_at = ?4, outcome = x''
    WHERE expires_at <= ?5";

pub(super) struct Sql {
    pub(super) read: Statement,
    pub(super) insert: Statement,
    pub(super) claim: Statement,
    pub(super) extend: Statement,
    pub(super) complete: Statement,
    pub(super) remove: Statement,
    pub(super) release: Statement,
    pub(super) hand_back: Statement,
    pub(super) doubt: Statement,
    pub(super) reap: Statement,
    pub(super) unfinished: Statement,
    pub(super) checkpoint_in: Statement,
    pub(super) checkpoint: Statement,
    pub(super) orphan: Statement,
    pub(super) adopt: Statement,
    pub(super) postpone: Statement,
    pub(super) unpark: Statement,
    pub(super) take: Statement,
}

impl Sql {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Sqlite);
        Ok(Self {
            read: render(READ)?,
            insert: render(INSERT)?,
            claim: render(CLAIM)?,
            extend: render(EXTEND)?,
            complete: render(COMPLETE)?,
            remove: render(REMOVE)?,
            release: render(RELEASE)?,
            hand_back: render(HAND_BACK)?,
            doubt: render(DOUBT)?,
            reap: render(REAP)?,
            unfinished: render(UNFINISHED)?,
            checkpoint_in: render(CHECKPOINT_IN)?,
            checkpoint: render(CHECKPOINT)?,
            orphan: render(ORPHAN)?,
            adopt: render(ADOPT)?,
            postpone: render(POSTPONE)?,
            unpark: render(UNPARK)?,
            take: render(TAKE)?,
        })
    }
}
