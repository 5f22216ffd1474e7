//! The statements, in the SQL of `PostgreSQL`.

use buttress_store::{Dialect, NameError, Statement, Tables};
use sha2::{Digest as _, Sha256};

use crate::ScopedKey;

/// The server's clock; [`Dialect::now_micros`] as a literal.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// One round trip, whatever comes of it.
///
/// The lock is taken first: of two who come at once, one has it until his transaction ends, and
/// the other does not wait for his row but is told that he is at it. What says no for certain is
/// read, not written: `ON CONFLICT` would lock the row of each duplicate. What was committed since
/// this statement began is not read; there `ON CONFLICT` decides by the newest row, and the caller
/// looks again.
const CLAIM: &str = concat!(
    "WITH look AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock($1) AS ours, ",
    now!(),
    " AS now, held.*
        FROM (SELECT) AS nothing LEFT JOIN {schema}{prefix}idempotency AS held ON held.id = $2),
    claimed AS (
        INSERT INTO {schema}{prefix}idempotency AS it
            (id, epoch, token, fingerprint, state, lease_until, expires_at, request, due_at,
                driver)
        SELECT $2, 1, $3, $4, 0, look.now + $5, look.now + $6, $7::bytea,
            CASE WHEN $7::bytea IS NOT NULL THEN look.now + $5 END, $8 FROM look
        WHERE look.ours AND (look.id IS NULL OR look.expires_at <= look.now OR look.token = $3
            OR (look.state < 2 AND look.lease_until <= look.now))
        ON CONFLICT (id) DO UPDATE SET
            epoch = CASE WHEN it.expires_at <= excluded.lease_until - $5 THEN 1
                WHEN it.token = excluded.token THEN it.epoch ELSE it.epoch + 1 END,
            token = excluded.token, fingerprint = excluded.fingerprint, state = 0, outcome = NULL,
            lease_until = excluded.lease_until, expires_at = excluded.expires_at,
            progress = CASE WHEN it.expires_at > excluded.lease_until - $5 THEN it.progress END,
            drives = CASE WHEN it.expires_at > excluded.lease_until - $5 THEN it.drives ELSE 0 END,
            request = CASE WHEN it.expires_at > excluded.lease_until - $5 AND it.request IS NOT NULL
                THEN it.request ELSE excluded.request END,
            due_at = CASE WHEN it.expires_at > excluded.lease_until - $5 AND it.request IS NOT NULL
                THEN it.due_at ELSE excluded.due_at END,
            driver = CASE WHEN it.expires_at > excluded.lease_until - $5 AND it.request IS NOT NULL
                THEN it.driver ELSE excluded.driver END
        WHERE it.expires_at <= excluded.lease_until - $5
            OR (it.state < 2
                AND (it.token = excluded.token OR it.lease_until <= excluded.lease_until - $5)
                AND (it.fingerprint = excluded.fingerprint
                    OR get_byte(it.fingerprint, 0) <> get_byte(excluded.fingerprint, 0)))
        RETURNING epoch, progress)
    SELECT look.ours, look.now, claimed.epoch, claimed.progress, look.epoch, look.token,
        look.fingerprint, look.state, look.lease_until, look.expires_at, look.outcome, look.progress
    FROM look LEFT JOIN claimed ON true"
);

const EXTEND: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET lease_until = ",
    now!(),
    " + $4,
        expires_at = GREATEST(expires_at, ",
    now!(),
    " + $5)
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const COMPLETE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 2, outcome = $4,
        progress = NULL, request = NULL, due_at = NULL, expires_at = GREATEST(expires_at, ",
    now!(),
    " + $5)
    WHERE id = $1 AND epoch = $2 AND token = $3"
);

const REMOVE: &str = "DELETE FROM {schema}{prefix}idempotency
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2 AND progress IS NULL";

const RELEASE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 1, request = NULL, due_at = NULL, drives = 0,
        lease_until = ",
    now!(),
    "
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const HAND_BACK: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET state = 1, lease_until = ",
    now!(),
    "
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const DOUBT: &str = "UPDATE {schema}{prefix}idempotency SET state = 1
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2";

/// `ANY(ARRAY(…))`, for a planner may run a subquery with a limit more than once.
const REAP: &str = concat!(
    "DELETE FROM {schema}{prefix}idempotency WHERE id = ANY(ARRAY(
        SELECT id FROM {schema}{prefix}idempotency WHERE expires_at <= ",
    now!(),
    "
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))"
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
    " - $1
    ORDER BY lease_until LIMIT $2"
);

/// Strict: what is there already was put there by another transaction, with its writes. Who gets on
/// is not driven in vain: the drives are counted from zero again, and a last one was not the last.
const CHECKPOINT_IN: &str = "UPDATE {schema}{prefix}idempotency SET progress = $5, drives = 0,
        due_at = COALESCE(due_at, CASE WHEN request IS NOT NULL THEN lease_until END)
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2
        AND COALESCE(octet_length(progress), 0) = $4";

/// What is there already was put there by this same statement, whose answer was lost.
const CHECKPOINT: &str = "UPDATE {schema}{prefix}idempotency SET progress = $5, drives = 0,
        due_at = COALESCE(due_at, CASE WHEN request IS NOT NULL THEN lease_until END)
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2
        AND (COALESCE(octet_length(progress), 0) = $4 OR progress = $5)";

/// Who is being completed or claimed just now is passed by. The time is asked for once, so that the
/// index is entered at what is due.
const ADOPT: &str = concat!(
    "WITH look AS MATERIALIZED (SELECT ",
    now!(),
    " AS now),
    due AS (
        SELECT id FROM {schema}{prefix}idempotency
        WHERE driver = $6 AND due_at <= (SELECT now FROM look) AND lease_until <= (SELECT now FROM look) - $4
            AND state < 2 AND request IS NOT NULL AND expires_at > (SELECT now FROM look)
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE {schema}{prefix}idempotency AS it SET epoch = it.epoch + 1, token = $1, state = 0,
        lease_until = look.now + $2, expires_at = GREATEST(it.expires_at, look.now + $3),
        drives = it.drives + 1,
        due_at = CASE WHEN it.drives + 1 < $5 THEN look.now + $2 END
    FROM due, look WHERE it.id = due.id
    RETURNING it.id, it.epoch, it.fingerprint, it.request, it.progress, it.drives"
);

/// What has no request any more is never due: its handler has released it.
const POSTPONE: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET
        due_at = CASE WHEN request IS NOT NULL THEN ",
    now!(),
    " + $4::bigint END,
        drives = GREATEST(drives - $5, 0),
        state = CASE WHEN $6 THEN 1 ELSE state END,
        lease_until = CASE WHEN $6 THEN ",
    now!(),
    " ELSE lease_until END
    WHERE id = $1 AND epoch = $2 AND token = $3 AND state < 2"
);

const UNPARK: &str = concat!(
    "UPDATE {schema}{prefix}idempotency SET due_at = ",
    now!(),
    ", drives = 0
    WHERE id = $1 AND state < 2 AND request IS NOT NULL AND expires_at > ",
    now!()
);

const TAKE: &str = concat!(
    "INSERT INTO {schema}{prefix}idempotency AS it
        (id, epoch, token, fingerprint, state, lease_until, expires_at, outcome)
    VALUES ($1, 1, $2, $3, 2, 0, ",
    now!(),
    " + $4, '')
    ON CONFLICT (id) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
    WHERE it.expires_at <= ",
    now!()
);

pub(super) struct Sql {
    /// What the locks of this table begin with: one server may have several.
    locks: String,
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
    pub(super) adopt: Statement,
    pub(super) postpone: Statement,
    pub(super) unpark: Statement,
    pub(super) take: Statement,
}

impl Sql {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Postgres);
        Ok(Self {
            locks: tables.to_string(),
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
            adopt: render(ADOPT)?,
            postpone: render(POSTPONE)?,
            unpark: render(UNPARK)?,
            take: render(TAKE)?,
        })
    }

    /// The number of a key's advisory lock. Two keys that share one are told of each other's work
    /// that it is theirs in flight, and come back later.
    pub(super) fn lock(&self, key: &ScopedKey) -> i64 {
        let mut hash = Sha256::new();
        hash.update(b"buttress-idempotency lock\0");
        hash.update(&self.locks);
        hash.update(b"\0");
        hash.update(key.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}
