//! The SQL, rendered once, in what MySQL 8 and MariaDB both understand.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The server's clock.
macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
    };
}

/// A message to be appended. All of one statement have the same time.
macro_rules! new {
    () => {
        concat!(
            "(?, ?, ?, ",
            now!(),
            ", CASE WHEN ? > 0 THEN ",
            now!(),
            " + ? ELSE ? END, ?, ?)"
        )
    };
}

macro_rules! append {
    ($($row:expr),*) => {
        concat!(
            "INSERT INTO {schema}{prefix}outbox
               (topic, lane, `key`, created_at, not_before, attributes, payload) VALUES ",
            $($row),*
        )
    };
}

/// [`AT_ONCE`] of them: rows of one INSERT get their ids in its order.
macro_rules! append_many {
    () => {
        append!(
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!(),
            ", ",
            new!()
        )
    };
}

/// How many messages `append_many` takes.
pub(super) const AT_ONCE: usize = 16;

/// A read of one lane: a run of its rows, in the order of the primary key. Several lanes in one
/// condition would be sorted, whole backlogs of them.
macro_rules! window {
    ($left_out:literal) => {
        concat!(
            "SELECT o.lane, o.id, o.`key`, o.created_at,
                    CASE WHEN o.not_before > ",
            now!(),
            " THEN o.not_before END,
                    o.attributes, o.payload
               FROM {schema}{prefix}outbox o FORCE INDEX (PRIMARY)
              WHERE o.topic = ? AND o.lane = ? AND o.id >= ? ",
            $left_out,
            " ORDER BY o.id LIMIT ?"
        )
    };
}

/// Numbers that are bound as one JSON array.
macro_rules! numbers {
    () => {
        "(SELECT j.n FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$')) AS j)"
    };
}

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// All statements.
        pub(super) struct Statements { $(pub(super) $name: Statement,)* }

        impl Statements {
            pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
                Ok(Self { $($name: Statement::new($sql, tables, Dialect::MySql)?,)* })
            }
        }
    };
}

statements! {
    append: append!(new!()),
    append_many: append_many!(),
    prepared: "SELECT COUNT(*) FROM {schema}{prefix}outbox_lane WHERE topic = ?",
    prepare: "INSERT IGNORE INTO {schema}{prefix}outbox_lane (topic, lane) VALUES (?, ?)",
    lock: concat!(
        "SELECT lane, epoch, token FROM {schema}{prefix}outbox_lane
          WHERE topic = ? AND lane IN ", numbers!(), " ORDER BY topic, lane FOR UPDATE"
    ),
    extend: concat!(
        "UPDATE {schema}{prefix}outbox_lane SET lease_until = ", now!(), " + ?
          WHERE topic = ? AND lane IN ", numbers!()
    ),
    alive: concat!(
        "INSERT INTO {schema}{prefix}outbox_relay (topic, relay, until)
         VALUES (?, ?, ", now!(), " + ?) ON DUPLICATE KEY UPDATE until = VALUES(until)"
    ),
    relays: concat!(
        "SELECT (SELECT COUNT(*) FROM {schema}{prefix}outbox_relay
                  WHERE topic = ? AND until > ", now!(), "),
                EXISTS (SELECT 1 FROM {schema}{prefix}outbox_topic
                         WHERE topic = ? AND paused_at IS NOT NULL)"
    ),
    free: concat!(
        "SELECT lane FROM {schema}{prefix}outbox_lane
          WHERE topic = ? AND lease_until <= ", now!(), " ORDER BY RAND() LIMIT ?"
    ),
    lock_free: concat!(
        "SELECT lane, epoch, token IS NOT NULL, alone FROM {schema}{prefix}outbox_lane
          WHERE topic = ? AND lane IN ", numbers!(), " AND lease_until <= ", now!(), "
          ORDER BY topic, lane FOR UPDATE SKIP LOCKED"
    ),
    claim: concat!(
        "UPDATE {schema}{prefix}outbox_lane
            SET epoch = epoch + 1, token = ?, lease_until = ", now!(), " + ?
          WHERE topic = ? AND lane IN ", numbers!()
    ),
    release: concat!(
        "UPDATE {schema}{prefix}outbox_lane SET token = NULL, lease_until = 0, alone = NULL
          WHERE topic = ? AND lane IN ", numbers!()
    ),
    leave: "DELETE FROM {schema}{prefix}outbox_relay WHERE topic = ? AND relay = ?",
    asides: concat!(
        "SELECT lane, `key`, head, failures, lapses, waits FROM {schema}{prefix}outbox_aside
          WHERE topic = ? AND lane IN ", numbers!(), " LIMIT ?"
    ),
    window: window!(""),
    window_waiting: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.`key` = o.`key`
             AND a.until > TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)))"
    ),
    window_aside: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.`key` = o.`key`)"
    ),
    alone: "UPDATE {schema}{prefix}outbox_lane SET alone = ?
             WHERE topic = ? AND lane = ? AND epoch = ? AND token = ?",
    keep: concat!(
        "INSERT INTO {schema}{prefix}outbox_kept
           (topic, id, `key`, created_at, delivered_at, attributes, payload)
         SELECT o.topic, o.id, o.`key`, o.created_at, ", now!(), ", o.attributes, o.payload
           FROM {schema}{prefix}outbox o
          WHERE o.topic = ? AND o.lane = ? AND o.id IN ", numbers!()
    ),
    delete: "DELETE o FROM JSON_TABLE(?, '$[*]' COLUMNS
               (lane SMALLINT PATH '$[0]', id BIGINT PATH '$[1]')) AS j
             STRAIGHT_JOIN {schema}{prefix}outbox o FORCE INDEX (PRIMARY)
                ON o.topic = ? AND o.lane = j.lane AND o.id = j.id",
    forget: "DELETE FROM {schema}{prefix}outbox_aside
              WHERE topic = ? AND lane = ? AND `key` = ?",
    set_aside: concat!(
        "INSERT INTO {schema}{prefix}outbox_aside
           (topic, lane, `key`, head, failures, lapses, waits, until, error)
         VALUES (?, ?, ?, ?, ?, ?, ?, COALESCE(?, ", now!(), " + ?), ?)
         ON DUPLICATE KEY UPDATE head = VALUES(head), failures = VALUES(failures),
           lapses = VALUES(lapses), waits = VALUES(waits), until = VALUES(until),
           error = VALUES(error)"
    ),
    bury: concat!(
        "INSERT IGNORE INTO {schema}{prefix}outbox_dead
           (topic, id, lane, `key`, created_at, attributes, payload,
            failures, lapses, died_at, error)
         SELECT topic, id, lane, `key`, created_at, attributes, payload, ?, ?, ", now!(), ", ?
           FROM {schema}{prefix}outbox WHERE topic = ? AND lane = ? AND id = ?"
    ),
    to_the_end: "INSERT INTO {schema}{prefix}outbox
           (topic, lane, `key`, created_at, not_before, attributes, payload)
         SELECT topic, lane, `key`, created_at, 0, attributes, payload
           FROM {schema}{prefix}outbox WHERE topic = ? AND lane = ? AND id = ?",
    delete_one: "DELETE FROM {schema}{prefix}outbox WHERE topic = ? AND lane = ? AND id = ?",
    not_alone: "UPDATE {schema}{prefix}outbox_lane SET alone = NULL WHERE topic = ? AND lane = ?",
    counts: concat!(
        "SELECT (SELECT COUNT(*) FROM {schema}{prefix}outbox WHERE topic = ?),
                (SELECT COALESCE(", now!(), " - MIN(created_at), 0)
                   FROM {schema}{prefix}outbox WHERE topic = ?),
                (SELECT COUNT(*) FROM {schema}{prefix}outbox_aside
                  WHERE topic = ? AND until > ", now!(), "),
                (SELECT COUNT(*) FROM {schema}{prefix}outbox_aside
                  WHERE topic = ? AND until = 9223372036854775807),
                (SELECT COUNT(*) FROM {schema}{prefix}outbox_dead WHERE topic = ?),
                (SELECT COUNT(*) FROM {schema}{prefix}outbox_lane
                  WHERE topic = ? AND lease_until > ", now!(), "),
                EXISTS (SELECT 1 FROM {schema}{prefix}outbox_topic
                         WHERE topic = ? AND paused_at IS NOT NULL)"
    ),
    // One statement, one snapshot: a message that is being settled is in one of the three.
    history: "SELECT * FROM (SELECT id, `key`, created_at, NULL AS delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox WHERE topic = ? AND id > ? ORDER BY id LIMIT ?) AS x
         UNION ALL SELECT * FROM (SELECT id, `key`, created_at, delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox_kept WHERE topic = ? AND id > ? ORDER BY id LIMIT ?) AS t
         UNION ALL SELECT * FROM (SELECT id, `key`, created_at, NULL AS delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox_dead WHERE topic = ? AND id > ? ORDER BY id LIMIT ?) AS d
          ORDER BY id LIMIT ?",
    dead: "SELECT id, `key`, created_at, died_at, failures, lapses, attributes, payload, error
             FROM {schema}{prefix}outbox_dead WHERE topic = ? AND id > ? ORDER BY id LIMIT ?",
    put_back: "INSERT INTO {schema}{prefix}outbox
                 (topic, lane, id, `key`, created_at, not_before, attributes, payload)
               SELECT topic, lane, id, `key`, created_at, 0, COALESCE(?, attributes), payload
                 FROM {schema}{prefix}outbox_dead WHERE topic = ? AND id = ?",
    lock_dead: "SELECT id FROM {schema}{prefix}outbox_dead WHERE topic = ? AND id = ? FOR UPDATE",
    freed: "UPDATE {schema}{prefix}outbox_aside a
              JOIN {schema}{prefix}outbox_dead d
                ON a.topic = d.topic AND a.lane = d.lane AND a.`key` = d.`key` AND a.head = d.id
               SET a.until = 0, a.failures = 0, a.lapses = 0, a.waits = 0
             WHERE d.topic = ? AND d.id = ?",
    undead: "DELETE FROM {schema}{prefix}outbox_dead WHERE topic = ? AND id = ?",
    waiting: concat!(
        "SELECT `key`, head, failures, lapses, waits, until, error
           FROM {schema}{prefix}outbox_aside WHERE topic = ? AND until > ", now!(), "
          ORDER BY until DESC, head LIMIT ?"
    ),
    unblock: "UPDATE {schema}{prefix}outbox_aside
                 SET until = 0, failures = 0, lapses = 0, waits = 0
               WHERE topic = ? AND lane = ? AND `key` = ?",
    pause: concat!(
        "INSERT INTO {schema}{prefix}outbox_topic (topic, paused_at, reason)
         VALUES (?, ", now!(), ", ?)
         ON DUPLICATE KEY UPDATE paused_at = VALUES(paused_at), reason = VALUES(reason)"
    ),
    resume: "DELETE FROM {schema}{prefix}outbox_topic WHERE topic = ?",
    prune: concat!(
        "DELETE FROM {schema}{prefix}outbox_kept WHERE topic = ? AND delivered_at < ", now!(), " - ?
          ORDER BY topic, delivered_at LIMIT ?"
    ),
    // A key without a message needs no mark: its next one begins with no history.
    prune_aside: "DELETE a FROM {schema}{prefix}outbox_aside a WHERE a.topic = ? AND a.until = 0
           AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox o
             WHERE o.topic = a.topic AND o.lane = a.lane AND o.`key` = a.`key`)",
    prune_relays: concat!(
        "DELETE FROM {schema}{prefix}outbox_relay WHERE topic = ? AND until < ", now!(), " - 3600000000"
    ),
    take: concat!(
        "INSERT IGNORE INTO {schema}{prefix}inbox (consumer, message, taken_at)
         VALUES (?, ?, ", now!(), ")"
    ),
    was_taken: "SELECT COUNT(*) FROM {schema}{prefix}inbox WHERE consumer = ? AND message = ?",
    prune_inbox: concat!(
        "DELETE FROM {schema}{prefix}inbox WHERE consumer = ? AND taken_at < ", now!(), " - ?
          ORDER BY taken_at LIMIT ?"
    ),
}
