//! The SQL, rendered once. The time is bound: there is no server to ask.

use buttress_store::{Dialect, NameError, Statement, Tables};

macro_rules! window {
    ($left_out:literal) => {
        concat!(
            "SELECT o.lane, o.id, o.key, o.created_at,
                    CASE WHEN o.not_before > ?1 THEN o.not_before END, o.attributes, o.payload
               FROM {prefix}outbox o
              WHERE o.topic = ?2 AND o.lane = ?3 AND o.id >= ?4 ",
            $left_out,
            " ORDER BY o.id LIMIT ?5"
        )
    };
}

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// All statements.
        pub(super) struct Statements { $(pub(super) $name: Statement,)* }

        impl Statements {
            pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
                Ok(Self { $($name: Statement::new($sql, tables, Dialect::Sqlite)?,)* })
            }
        }
    };
}

statements! {
    next: "UPDATE {prefix}outbox_sequence SET last = last + ?1 WHERE one = 1 RETURNING last",
    append: "INSERT INTO {prefix}outbox
               (topic, lane, id, key, created_at, not_before, attributes, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    prepared: "SELECT count(*) FROM {prefix}outbox_lane WHERE topic = ?1",
    prepare: "INSERT INTO {prefix}outbox_lane (topic, lane) VALUES (?1, ?2)
              ON CONFLICT (topic, lane) DO NOTHING",
    extend: "UPDATE {prefix}outbox_lane SET lease_until = ?5
              WHERE topic = ?1 AND lane = ?2 AND epoch = ?3 AND token = ?4",
    alive: "INSERT INTO {prefix}outbox_relay (topic, relay, until) VALUES (?1, ?2, ?3)
            ON CONFLICT (topic, relay) DO UPDATE SET until = excluded.until",
    relays: "SELECT (SELECT count(*) FROM {prefix}outbox_relay WHERE topic = ?1 AND until > ?2),
                    EXISTS (SELECT 1 FROM {prefix}outbox_topic
                             WHERE topic = ?1 AND paused_at IS NOT NULL)",
    free: "SELECT lane, epoch, token IS NOT NULL, alone FROM {prefix}outbox_lane
            WHERE topic = ?1 AND lease_until <= ?2 ORDER BY random() LIMIT ?3",
    claim: "UPDATE {prefix}outbox_lane SET epoch = epoch + 1, token = ?3, lease_until = ?4
             WHERE topic = ?1 AND lane = ?2",
    release: "UPDATE {prefix}outbox_lane SET token = NULL, lease_until = 0, alone = NULL
               WHERE topic = ?1 AND lane = ?2 AND epoch = ?3 AND token = ?4",
    leave: "DELETE FROM {prefix}outbox_relay WHERE topic = ?1 AND relay = ?2",
    asides: "SELECT lane, key, head, failures, lapses, waits FROM {prefix}outbox_aside
              WHERE topic = ?1 AND lane IN (SELECT value FROM json_each(?2)) LIMIT ?3",
    window: window!(""),
    window_waiting: window!(
        "AND NOT EXISTS (SELECT 1 FROM {prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key AND a.until > ?1)"
    ),
    window_aside: window!(
        "AND NOT EXISTS (SELECT 1 FROM {prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key)"
    ),
    alone: "UPDATE {prefix}outbox_lane SET alone = ?5
             WHERE topic = ?1 AND lane = ?2 AND epoch = ?3 AND token = ?4",
    mine: "SELECT count(*) FROM {prefix}outbox_lane
            WHERE topic = ?1 AND lane = ?2 AND epoch = ?3 AND token = ?4",
    keep: "INSERT INTO {prefix}outbox_kept
             (topic, id, key, created_at, delivered_at, attributes, payload)
           SELECT topic, id, key, created_at, ?4, attributes, payload FROM {prefix}outbox
            WHERE topic = ?1 AND lane = ?2 AND id IN (SELECT value FROM json_each(?3))",
    delete: "DELETE FROM {prefix}outbox
              WHERE topic = ?1 AND lane = ?2 AND id IN (SELECT value FROM json_each(?3))",
    forget: "DELETE FROM {prefix}outbox_aside WHERE topic = ?1 AND lane = ?2 AND key = ?3",
    set_aside: "INSERT INTO {prefix}outbox_aside
                  (topic, lane, key, head, failures, lapses, waits, until, error)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                ON CONFLICT (topic, lane, key) DO UPDATE
                  SET head = excluded.head, failures = excluded.failures, lapses = excluded.lapses,
                      waits = excluded.waits, until = excluded.until, error = excluded.error",
    bury: "INSERT INTO {prefix}outbox_dead (topic, id, lane, key, created_at, attributes, payload,
                                            failures, lapses, died_at, error)
           SELECT topic, id, lane, key, created_at, attributes, payload, ?4, ?5, ?6, ?7
             FROM {prefix}outbox WHERE topic = ?1 AND lane = ?2 AND id = ?3
           ON CONFLICT (topic, id) DO NOTHING",
    to_the_end: "INSERT INTO {prefix}outbox
                   (topic, lane, id, key, created_at, not_before, attributes, payload)
                 SELECT topic, lane, ?4, key, created_at, 0, attributes, payload
                   FROM {prefix}outbox WHERE topic = ?1 AND lane = ?2 AND id = ?3",
    delete_one: "DELETE FROM {prefix}outbox WHERE topic = ?1 AND lane = ?2 AND id = ?3",
    not_alone: "UPDATE {prefix}outbox_lane SET alone = NULL
                 WHERE topic = ?1 AND lane = ?2 AND alone IS NOT NULL",
    counts: "SELECT (SELECT count(*) FROM {prefix}outbox WHERE topic = ?1),
                    coalesce((SELECT ?2 - min(created_at) FROM {prefix}outbox
                               WHERE topic = ?1), 0),
                    (SELECT count(*) FROM {prefix}outbox_aside WHERE topic = ?1 AND until > ?2),
                    (SELECT count(*) FROM {prefix}outbox_aside
                      WHERE topic = ?1 AND until = 9223372036854775807),
                    (SELECT count(*) FROM {prefix}outbox_dead WHERE topic = ?1),
                    (SELECT count(*) FROM {prefix}outbox_lane
                      WHERE topic = ?1 AND lease_until > ?2),
                    EXISTS (SELECT 1 FROM {prefix}outbox_topic
                             WHERE topic = ?1 AND paused_at IS NOT NULL)",
    // One statement, one snapshot: a message that is being settled is in one of the three.
    history: "SELECT * FROM (SELECT id, key, created_at, NULL AS delivered_at,
                  attributes, payload
             FROM {prefix}outbox WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3) AS x
         UNION ALL SELECT * FROM (SELECT id, key, created_at, delivered_at,
                  attributes, payload
             FROM {prefix}outbox_kept WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3) AS t
         UNION ALL SELECT * FROM (SELECT id, key, created_at, NULL AS delivered_at,
                  attributes, payload
             FROM {prefix}outbox_dead WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3) AS d
          ORDER BY id LIMIT ?3",
    dead: "SELECT id, key, created_at, died_at, failures, lapses, attributes, payload, error
             FROM {prefix}outbox_dead WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    put_back: "INSERT INTO {prefix}outbox
                 (topic, lane, id, key, created_at, not_before, attributes, payload)
               SELECT topic, lane, id, key, created_at, 0, coalesce(?3, attributes), payload
                 FROM {prefix}outbox_dead WHERE topic = ?1 AND id = ?2",
    freed: "UPDATE {prefix}outbox_aside SET until = 0, failures = 0, lapses = 0, waits = 0
             WHERE topic = ?1 AND head = ?2 AND (lane, key) IN
               (SELECT lane, key FROM {prefix}outbox_dead WHERE topic = ?1 AND id = ?2)",
    undead: "DELETE FROM {prefix}outbox_dead WHERE topic = ?1 AND id = ?2",
    waiting: "SELECT key, head, failures, lapses, waits, until, error
                FROM {prefix}outbox_aside WHERE topic = ?1 AND until > ?2
               ORDER BY until DESC, head LIMIT ?3",
    unblock: "UPDATE {prefix}outbox_aside SET until = 0, failures = 0, lapses = 0, waits = 0
               WHERE topic = ?1 AND lane = ?2 AND key = ?3",
    pause: "INSERT INTO {prefix}outbox_topic (topic, paused_at, reason) VALUES (?1, ?2, ?3)
            ON CONFLICT (topic) DO UPDATE
              SET paused_at = excluded.paused_at, reason = excluded.reason",
    resume: "DELETE FROM {prefix}outbox_topic WHERE topic = ?1",
    prune: "DELETE FROM {prefix}outbox_kept WHERE rowid IN
              (SELECT rowid FROM {prefix}outbox_kept WHERE topic = ?1 AND delivered_at < ?2
                ORDER BY delivered_at LIMIT ?3)",
    // A key without a message needs no mark: its next one begins with no history.
    prune_aside: "DELETE FROM {prefix}outbox_aside WHERE topic = ?1 AND until = 0 AND NOT EXISTS
                    (SELECT 1 FROM {prefix}outbox o WHERE o.topic = ?1
                        AND o.lane = {prefix}outbox_aside.lane AND o.key = {prefix}outbox_aside.key)",
    prune_relays: "DELETE FROM {prefix}outbox_relay WHERE topic = ?1 AND until < ?2",
    take: "INSERT INTO {prefix}inbox (consumer, message, taken_at) VALUES (?1, ?2, ?3)
           ON CONFLICT (consumer, message) DO NOTHING",
    was_taken: "SELECT COUNT(*) FROM {prefix}inbox WHERE consumer = ?1 AND message = ?2",
    prune_inbox: "DELETE FROM {prefix}inbox WHERE (consumer, message) IN
                    (SELECT consumer, message FROM {prefix}inbox
                      WHERE consumer = ?1 AND taken_at < ?2 ORDER BY taken_at LIMIT ?3)",
}
