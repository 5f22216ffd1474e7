//! The SQL, rendered once.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The server's clock, at the statement's beginning: the same for all rows of one statement.
macro_rules! now {
    () => {
        "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"
    };
}

/// The lanes that are still held under these fences, locked in their order: two statements that
/// lock several never wait for each other in a circle. A fence that has changed meanwhile is read
/// again after the wait, for that is what READ COMMITTED does.
macro_rules! mine {
    () => {
        "SELECT l.lane FROM {schema}{prefix}outbox_lane l
           JOIN unnest($2::smallint[], $3::bigint[], $4::bytea[]) AS t(lane, epoch, token)
             ON l.lane = t.lane AND l.epoch = t.epoch AND l.token = t.token
          WHERE l.topic = $1 ORDER BY l.lane FOR UPDATE OF l"
    };
}

/// The physical places of these messages: found by index whatever the statistics say, which are
/// those of an empty table often enough.
macro_rules! places {
    ($mine:literal) => {
        concat!(
            "SELECT x.place FROM unnest($5::smallint[], $6::bigint[]) AS t(lane, id)
              CROSS JOIN LATERAL (SELECT o.ctid AS place FROM {schema}{prefix}outbox o
                WHERE o.topic = $1 AND o.lane = t.lane AND o.id = t.id LIMIT 1) x",
            $mine
        )
    };
}

/// A read of messages. Each lane's part is a run of its rows: the inner LIMIT keeps the planner
/// from turning the whole into another join, so the outer one cuts off the end and nothing else.
macro_rules! window {
    ($left_out:literal) => {
        concat!(
            "SELECT r.lane, r.id, r.key, r.created_at,
                    CASE WHEN r.not_before > ",
            now!(),
            " THEN r.not_before END, r.attributes, r.payload
               FROM unnest($2::smallint[], $3::bigint[]) AS f(lane, low)
              CROSS JOIN LATERAL (SELECT o.* FROM {schema}{prefix}outbox o
                WHERE o.topic = $1 AND o.lane = f.lane AND o.id >= f.low ",
            $left_out,
            " ORDER BY o.topic, o.lane, o.id LIMIT $4) r LIMIT $5"
        )
    };
}

/// How far each of the topic's lanes has settled its stream, if it may have one.
macro_rules! streams {
    () => {
        "(SELECT pl.lane, greatest(pl.position,
             (SELECT pm.position FROM {schema}{prefix}outbox_mark pm
               WHERE pm.topic = pl.topic AND pm.lane = pl.lane
               ORDER BY pm.position DESC LIMIT 1)) AS position
            FROM {schema}{prefix}outbox_lane pl
           WHERE pl.topic = $1 AND pl.position IS NOT NULL OFFSET 0) p"
    };
}

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// All statements.
        pub(super) struct Statements { $(pub(super) $name: Statement,)* }

        impl Statements {
            pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
                Ok(Self { $($name: Statement::new($sql, tables, Dialect::Postgres)?,)* })
            }
        }
    };
}

statements! {
    append: "INSERT INTO {schema}{prefix}outbox
           (topic, lane, key, created_at, not_before, attributes, payload)
         SELECT $1, $2, $3, c.now, CASE WHEN $4 > 0 THEN c.now + $4 ELSE $5 END, $6, $7
           FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) c",
    insert_into: "INSERT INTO {schema}{prefix}outbox
           (topic, lane, key, created_at, not_before, attributes, payload)",
    append_all: "INSERT INTO {schema}{prefix}outbox
           (topic, lane, key, created_at, not_before, attributes, payload)
         SELECT t.topic, t.lane, t.key, c.now,
                CASE WHEN t.delay > 0 THEN c.now + t.delay ELSE t.not_before END,
                t.attributes, t.payload
           FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) c,
                unnest($1::text[], $2::smallint[], $3::bytea[], $4::bigint[], $5::bigint[],
                       $6::bytea[], $7::bytea[]) WITH ORDINALITY
                  AS t(topic, lane, key, delay, not_before, attributes, payload, place)
          ORDER BY t.place",
    prepared: "SELECT count(*) FROM {schema}{prefix}outbox_lane WHERE topic = $1",
    prepare: "INSERT INTO {schema}{prefix}outbox_lane (topic, lane)
              SELECT $1, lane FROM generate_series(0, $2::int - 1) AS lane ORDER BY lane
              ON CONFLICT (topic, lane) DO NOTHING",
    beat: concat!(
        "WITH mine AS MATERIALIZED (", mine!(), "),
         kept AS (UPDATE {schema}{prefix}outbox_lane l SET lease_until = ", now!(), " + $5
                    FROM mine WHERE l.topic = $1 AND l.lane = mine.lane RETURNING l.lane),
         me AS (INSERT INTO {schema}{prefix}outbox_relay (topic, relay, until)
                VALUES ($1, $6, ", now!(), " + $5)
                ON CONFLICT (topic, relay) DO UPDATE SET until = excluded.until)
         SELECT ARRAY(SELECT lane FROM kept),
                (SELECT count(*) + 1 FROM {schema}{prefix}outbox_relay r
                  WHERE r.topic = $1 AND r.until > ", now!(), " AND r.relay <> $6),
                EXISTS (SELECT 1 FROM {schema}{prefix}outbox_topic t
                         WHERE t.topic = $1 AND t.paused_at IS NOT NULL)"
    ),
    claim: concat!(
        "WITH free AS MATERIALIZED (
           SELECT lane, token IS NOT NULL AS lapsed, alone FROM {schema}{prefix}outbox_lane
            WHERE topic = $1 AND lease_until <= ", now!(), "
            ORDER BY random() LIMIT $2 FOR UPDATE SKIP LOCKED)
         UPDATE {schema}{prefix}outbox_lane l
            SET epoch = l.epoch + 1, token = $3, lease_until = ", now!(), " + $4
           FROM free WHERE l.topic = $1 AND l.lane = free.lane
         RETURNING l.lane, l.epoch, free.lapsed, free.alone, l.position IS NOT NULL"
    ),
    // Locked in the order in which all lock them, and judged as they are then.
    claim_all: concat!(
        "WITH each AS MATERIALIZED (
           SELECT lane, token IS NOT NULL AS lapsed, alone, lease_until <= ", now!(), " AS free
             FROM {schema}{prefix}outbox_lane WHERE topic = $1 ORDER BY lane FOR UPDATE)
         UPDATE {schema}{prefix}outbox_lane l
            SET epoch = l.epoch + 1, token = $2, lease_until = ", now!(), " + $3
           FROM each WHERE l.topic = $1 AND l.lane = each.lane
            AND (SELECT bool_and(free) FROM each)
         RETURNING l.lane, l.epoch, each.lapsed, each.alone, l.position IS NOT NULL"
    ),
    release: concat!(
        "WITH mine AS MATERIALIZED (", mine!(), ")
         UPDATE {schema}{prefix}outbox_lane l SET token = NULL, lease_until = 0, alone = NULL
           FROM mine WHERE l.topic = $1 AND l.lane = mine.lane"
    ),
    leave: "DELETE FROM {schema}{prefix}outbox_relay WHERE topic = $1 AND relay = $2",
    asides: "SELECT lane, key, head, failures, lapses, waits FROM {schema}{prefix}outbox_aside
              WHERE topic = $1 AND lane = ANY($2) LIMIT $3",
    window: window!(""),
    window_waiting: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key
             AND a.until > (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)"
    ),
    window_aside: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key)"
    ),
    // Whoever inserts holds this lock on the table: from before the id is given to him, and until
    // after his commit can be seen. A sequence with a cache would give ids to a connection long
    // before it inserts.
    sight: "SELECT s.seqcache = 1 AND s.seqincrement > 0 AND NOT s.seqcycle,
            CASE WHEN has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
                 THEN pg_sequence_last_value(s.seqrelid) END,
            ARRAY(SELECT l.virtualtransaction FROM pg_locks l
                   WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
                     AND l.relation IN ('{schema}{prefix}outbox'::regclass,
                                        '{schema}{prefix}outbox_stream'::regclass)
                     AND l.database = (SELECT d.oid FROM pg_database d
                                        WHERE d.datname = current_database()))
       FROM pg_sequence s
      WHERE s.seqrelid = pg_get_serial_sequence('{schema}{prefix}outbox', 'id')::regclass",
    // Of others' sessions a user may see the locks, and perhaps not since when. A prepared one has
    // no session: it is found by its number, which it holds a lock on.
    writers: "SELECT count(DISTINCT l.virtualtransaction), coalesce((extract(epoch FROM
                statement_timestamp() - min(coalesce(a.xact_start, p.prepared))) * 1000000)::bigint, 0)
       FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
       LEFT JOIN (SELECT t.virtualtransaction, x.prepared
                    FROM pg_locks t JOIN pg_prepared_xacts x ON x.transaction = t.transactionid
                   WHERE t.locktype = 'transactionid' AND t.pid IS NULL) p
         ON l.pid IS NULL AND p.virtualtransaction = l.virtualtransaction
      WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.relation IN ('{schema}{prefix}outbox'::regclass,
                           '{schema}{prefix}outbox_stream'::regclass)
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())",
    // The lowest ids of all lanes, by an index that has them lane by lane, and then their rows.
    line: concat!(
        "SELECT r.lane, r.id, r.key, r.created_at,
                CASE WHEN r.not_before > ",
        now!(),
        " THEN r.not_before END, r.attributes, r.payload
           FROM (SELECT f.lane, x.id FROM unnest($2::smallint[], $3::bigint[]) AS f(lane, low)
                  CROSS JOIN LATERAL (SELECT o.id FROM {schema}{prefix}outbox o
                    WHERE o.topic = $1 AND o.lane = f.lane AND o.id >= f.low
                    ORDER BY o.topic, o.lane, o.id LIMIT $4) x
                  ORDER BY x.id LIMIT $4) h
          CROSS JOIN LATERAL (SELECT o.* FROM {schema}{prefix}outbox o
            WHERE o.topic = $1 AND o.lane = h.lane AND o.id = h.id LIMIT 1) r
          WHERE NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
            WHERE a.topic = $1 AND a.until > ",
        now!(),
        ") ORDER BY r.id"
    ),
    alone: "UPDATE {schema}{prefix}outbox_lane SET alone = $5
             WHERE topic = $1 AND lane = $2 AND epoch = $3 AND token = $4",
    mine: mine!(),
    settle: concat!(
        "WITH mine AS MATERIALIZED (", mine!(), "),
         gone AS (DELETE FROM {schema}{prefix}outbox WHERE ctid = ANY(ARRAY(",
        places!(" WHERE t.lane IN (SELECT lane FROM mine)"), ")))
         SELECT lane FROM mine"
    ),
    settle_keep: concat!(
        "WITH mine AS MATERIALIZED (", mine!(), "),
         gone AS (DELETE FROM {schema}{prefix}outbox WHERE ctid = ANY(ARRAY(",
        places!(" WHERE t.lane IN (SELECT lane FROM mine)"), "))
           RETURNING topic, id, key, created_at, attributes, payload),
         kept AS (INSERT INTO {schema}{prefix}outbox_kept
           (topic, id, key, created_at, delivered_at, attributes, payload)
           SELECT topic, id, key, created_at, ", now!(), ", attributes, payload FROM gone)
         SELECT lane FROM mine"
    ),
    forget: "DELETE FROM {schema}{prefix}outbox_aside a
              USING unnest($2::smallint[], $3::bytea[]) AS t(lane, key)
              WHERE a.topic = $1 AND a.lane = t.lane AND a.key = t.key",
    set_aside: concat!(
        "INSERT INTO {schema}{prefix}outbox_aside
           (topic, lane, key, head, failures, lapses, waits, until, error)
         SELECT $1, t.lane, t.key, t.head, t.failures, t.lapses, t.waits,
                coalesce(t.at, ", now!(), " + t.wait), t.error
           FROM unnest($2::smallint[], $3::bytea[], $4::bigint[], $5::int[], $6::int[],
                       $7::int[], $8::bigint[], $9::bigint[], $10::text[])
             AS t(lane, key, head, failures, lapses, waits, wait, at, error)
         ON CONFLICT (topic, lane, key) DO UPDATE
           SET head = excluded.head, failures = excluded.failures, lapses = excluded.lapses,
               waits = excluded.waits, until = excluded.until, error = excluded.error"
    ),
    bury: concat!(
        "WITH gone AS (DELETE FROM {schema}{prefix}outbox
           WHERE topic = $1 AND lane = $2 AND id = $3
           RETURNING topic, id, lane, key, created_at, attributes, payload)
         INSERT INTO {schema}{prefix}outbox_dead
           (topic, id, lane, key, created_at, attributes, payload, failures, lapses, died_at, error)
         SELECT topic, id, lane, key, created_at, attributes, payload, $4, $5, ", now!(), ", $6
           FROM gone ON CONFLICT (topic, id) DO NOTHING"
    ),
    to_the_end: "WITH gone AS (DELETE FROM {schema}{prefix}outbox
           WHERE topic = $1 AND lane = $2 AND id = $3
           RETURNING topic, lane, key, created_at, attributes, payload)
         INSERT INTO {schema}{prefix}outbox
           (topic, lane, key, created_at, not_before, attributes, payload)
         SELECT topic, lane, key, created_at, 0, attributes, payload FROM gone",
    not_alone: "UPDATE {schema}{prefix}outbox_lane SET alone = NULL
                 WHERE topic = $1 AND lane = ANY($2) AND alone IS NOT NULL",
    // One statement, one snapshot: a message that is moved from one table to the other is in one.
    counts: concat!(
        "WITH stream AS MATERIALIZED (
           SELECT coalesce(sum(x.number), 0)::bigint AS number, min(x.oldest) AS oldest
             FROM ", streams!(), " CROSS JOIN LATERAL (
               SELECT count(*) AS number, min(s.created_at) AS oldest
                 FROM {schema}{prefix}outbox_stream s
                WHERE s.topic = $1 AND s.lane = p.lane AND s.id > p.position) x)
         SELECT (SELECT count(*) FROM {schema}{prefix}outbox WHERE topic = $1)
                  + (SELECT number FROM stream),
                coalesce(", now!(), " - least((SELECT min(created_at)
                   FROM {schema}{prefix}outbox WHERE topic = $1),
                  (SELECT oldest FROM stream)), 0),
                (SELECT count(*) FROM {schema}{prefix}outbox_aside
                  WHERE topic = $1 AND until > ", now!(), "),
                (SELECT count(*) FROM {schema}{prefix}outbox_aside
                  WHERE topic = $1 AND until = 9223372036854775807),
                (SELECT count(*) FROM {schema}{prefix}outbox_dead WHERE topic = $1),
                (SELECT count(*) FROM {schema}{prefix}outbox_lane
                  WHERE topic = $1 AND lease_until > ", now!(), "),
                EXISTS (SELECT 1 FROM {schema}{prefix}outbox_topic
                  WHERE topic = $1 AND paused_at IS NOT NULL)"
    ),
    // One statement, one snapshot: a message that is being settled is in one of the four.
    history: concat!("SELECT * FROM (SELECT id, key, created_at, NULL::bigint AS delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox WHERE topic = $1 AND id > $2 ORDER BY id LIMIT $3) AS x
         UNION ALL SELECT * FROM (SELECT s.id, s.key, s.created_at, NULL::bigint AS delivered_at,
                  s.attributes, s.payload
             FROM ", streams!(), " CROSS JOIN LATERAL (
               SELECT * FROM {schema}{prefix}outbox_stream s
                WHERE s.topic = $1 AND s.lane = p.lane AND s.id > greatest(p.position, $2)
                ORDER BY s.topic, s.lane, s.id LIMIT $3) s
            ORDER BY s.id LIMIT $3) AS s
         UNION ALL SELECT * FROM (SELECT id, key, created_at, delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox_kept WHERE topic = $1 AND id > $2 ORDER BY id LIMIT $3) AS t
         UNION ALL SELECT * FROM (SELECT id, key, created_at, NULL::bigint AS delivered_at,
                  attributes, payload
             FROM {schema}{prefix}outbox_dead WHERE topic = $1 AND id > $2 ORDER BY id LIMIT $3) AS d
          ORDER BY id LIMIT $3"),
    dead: "SELECT id, key, created_at, died_at, failures, lapses, attributes, payload, error
             FROM {schema}{prefix}outbox_dead WHERE topic = $1 AND id > $2
            ORDER BY topic, id LIMIT $3",
    // Its place is below where reads begin: the mark on its key, due at once, is what makes the
    // next full read begin there. It is of a time that pruning leaves alone.
    requeue: "WITH letter AS (DELETE FROM {schema}{prefix}outbox_dead
           WHERE topic = $1 AND id = $2
           RETURNING topic, id, lane, key, created_at, attributes, payload),
         marked AS (INSERT INTO {schema}{prefix}outbox_aside AS a
             (topic, lane, key, head, failures, lapses, waits, until, error)
           SELECT topic, lane, key, id, 0, 0, 0, 1, '' FROM letter
             ON CONFLICT (topic, lane, key) DO UPDATE
            SET head = least(a.head, excluded.head), until = 1, failures = 0, lapses = 0, waits = 0
          WHERE a.head = excluded.head OR a.until < 2)
         INSERT INTO {schema}{prefix}outbox
           (id, topic, lane, key, created_at, not_before, attributes, payload)
         SELECT id, topic, lane, key, created_at, 0, coalesce($3, attributes), payload FROM letter",
    skip: "WITH letter AS (DELETE FROM {schema}{prefix}outbox_dead
           WHERE topic = $1 AND id = $2 RETURNING topic, id, lane, key),
         freed AS (UPDATE {schema}{prefix}outbox_aside a
             SET until = 0, failures = 0, lapses = 0, waits = 0
            FROM letter d WHERE a.topic = d.topic AND a.lane = d.lane AND a.key = d.key
             AND a.head = d.id)
         SELECT id FROM letter",
    waiting: concat!(
        "SELECT key, head, failures, lapses, waits, until, error
           FROM {schema}{prefix}outbox_aside WHERE topic = $1 AND until > ", now!(), "
          ORDER BY until DESC, head LIMIT $2"
    ),
    unblock: "UPDATE {schema}{prefix}outbox_aside
                 SET until = 0, failures = 0, lapses = 0, waits = 0
               WHERE topic = $1 AND lane = $2 AND key = $3",
    pause: concat!(
        "INSERT INTO {schema}{prefix}outbox_topic (topic, paused_at, reason)
         VALUES ($1, ", now!(), ", $2)
         ON CONFLICT (topic) DO UPDATE SET paused_at = excluded.paused_at, reason = excluded.reason"
    ),
    resume: "DELETE FROM {schema}{prefix}outbox_topic WHERE topic = $1",
    prune: concat!(
        "DELETE FROM {schema}{prefix}outbox_kept WHERE ctid = ANY(ARRAY(
           SELECT ctid FROM {schema}{prefix}outbox_kept
            WHERE topic = $1 AND delivered_at < ", now!(), " - $2
            ORDER BY delivered_at LIMIT $3 FOR UPDATE SKIP LOCKED))"
    ),
    // A key without a message needs no mark: its next one begins with no history.
    prune_aside: "DELETE FROM {schema}{prefix}outbox_aside a WHERE a.topic = $1 AND a.until = 0
           AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox o
             WHERE o.topic = a.topic AND o.lane = a.lane AND o.key = a.key)",
    prune_relays: concat!(
        "DELETE FROM {schema}{prefix}outbox_relay WHERE topic = $1 AND until < ", now!(), " - 3600000000"
    ),
    take: concat!(
        "INSERT INTO {schema}{prefix}inbox (consumer, message, taken_at)
         VALUES ($1, $2, ", now!(), ") ON CONFLICT (consumer, message) DO NOTHING"
    ),
    was_taken: "SELECT COUNT(*) FROM {schema}{prefix}inbox WHERE consumer = $1 AND message = $2",
    prune_inbox: concat!(
        "DELETE FROM {schema}{prefix}inbox WHERE ctid = ANY(ARRAY(
           SELECT ctid FROM {schema}{prefix}inbox
            WHERE consumer = $1 AND taken_at < ", now!(), " - $2
            ORDER BY taken_at LIMIT $3 FOR UPDATE SKIP LOCKED))"
    ),
}
