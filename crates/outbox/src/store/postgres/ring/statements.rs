//! The SQL of the ring, rendered once.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The server's clock, as elsewhere.
macro_rules! now {
    () => {
        "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"
    };
}

/// The lanes that are still held under these fences, locked in their order, as elsewhere.
macro_rules! mine {
    () => {
        "SELECT l.lane FROM {schema}{prefix}outbox_lane l
           JOIN unnest($2::smallint[], $3::bigint[], $4::bytea[]) AS t(lane, epoch, token)
             ON l.lane = t.lane AND l.epoch = t.epoch AND l.token = t.token
          WHERE l.topic = $1 ORDER BY l.lane FOR UPDATE OF l"
    };
}

/// How far the stream of this lane is settled: the greatest mark, or what was noted of marks that
/// were emptied.
macro_rules! position {
    ($topic:literal, $lane:literal) => {
        concat!(
            "(SELECT greatest(pl.position,
                (SELECT pm.position FROM {schema}{prefix}outbox_mark pm
                  WHERE pm.topic = pl.topic AND pm.lane = pl.lane
                  ORDER BY pm.position DESC LIMIT 1))
               FROM {schema}{prefix}outbox_lane pl WHERE pl.topic = ",
            $topic,
            " AND pl.lane = ",
            $lane,
            ")"
        )
    };
}

/// A read of both tables as if they were one: of each lane a run of its rows in the order of their
/// ids. From the stream nothing is left out, for its lane could not move on: `held` says that the
/// key is set aside.
macro_rules! window {
    ($left_out:literal, $held:literal) => {
        concat!(
            "SELECT r.lane, r.id, r.key, r.created_at,
                    CASE WHEN r.not_before > ",
            now!(),
            " THEN r.not_before END, r.attributes, r.payload, r.stream, r.held
               FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[])
                 AS f(lane, low, position, upto)
              CROSS JOIN LATERAL (
                SELECT * FROM (
                  (SELECT o.lane, o.id, o.key, o.created_at, o.not_before, o.attributes,
                          o.payload, FALSE AS stream, FALSE AS held
                     FROM {schema}{prefix}outbox o
                    WHERE o.topic = $1 AND o.lane = f.lane AND o.id >= f.low AND o.id <= f.upto ",
            $left_out,
            "       ORDER BY o.topic, o.lane, o.id LIMIT $6)
                  UNION ALL
                  (SELECT s.lane, s.id, s.key, s.created_at, 0::bigint, s.attributes,
                          s.payload, TRUE, ",
            $held,
            "        FROM {schema}{prefix}outbox_stream s
                    WHERE s.topic = $1 AND s.lane = f.lane AND s.id > f.position
                      AND s.id <= f.upto
                    ORDER BY s.topic, s.lane, s.id LIMIT $6)) u
                 ORDER BY u.id LIMIT $6) r LIMIT $7"
        )
    };
}

/// Lanes that have rows in this piece which are not settled. From one lane to the next by the
/// index; of a lane that nobody knows nothing is settled.
macro_rules! unsettled {
    ($slot:literal) => {
        concat!(
            "WITH RECURSIVE each(topic, lane) AS (
               (SELECT s.topic, s.lane FROM {schema}{prefix}outbox_stream_",
            $slot,
            " s ORDER BY s.topic, s.lane, s.id LIMIT 1)
               UNION ALL
               SELECT n.topic, n.lane FROM each e CROSS JOIN LATERAL
                 (SELECT s.topic, s.lane FROM {schema}{prefix}outbox_stream_",
            $slot,
            " s WHERE (s.topic, s.lane) > (e.topic, e.lane)
                   ORDER BY s.topic, s.lane, s.id LIMIT 1) n)
             SELECT count(*) FROM each e
              WHERE coalesce(",
            position!("e.topic", "e.lane"),
            ", 0) < (SELECT max(s.id) FROM {schema}{prefix}outbox_stream_",
            $slot,
            " s WHERE s.topic = e.topic AND s.lane = e.lane)"
        )
    };
}

/// What is done about one piece of the ring.
macro_rules! pieces {
    ($($slot:literal),*) => {
        /// The statements of each piece, by its number.
        fn pieces(tables: &Tables) -> Result<Vec<Piece>, NameError> {
            Ok(vec![$(Piece {
                slot: $slot.parse().unwrap_or_default(),
                is_used: render(concat!(
                    "SELECT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_stream_", $slot, ")
                         OR EXISTS (SELECT 1 FROM {schema}{prefix}outbox_mark_", $slot, ")"
                ), tables)?,
                unsettled: render(unsettled!($slot), tables)?,
                lock: render(concat!(
                    "LOCK TABLE {schema}{prefix}outbox_stream_", $slot,
                    ", {schema}{prefix}outbox_mark_", $slot, " IN ACCESS EXCLUSIVE MODE"
                ), tables)?,
                // Lanes that have no greater mark elsewhere: those that were idle since.
                fold: render(concat!(
                    "UPDATE {schema}{prefix}outbox_lane l SET position = m.position
                       FROM (SELECT topic, lane, max(position) AS position
                               FROM {schema}{prefix}outbox_mark_", $slot, "
                              GROUP BY topic, lane) m
                      WHERE l.topic = m.topic AND l.lane = m.lane
                        AND (l.position IS NULL OR l.position < m.position)
                        AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_mark n
                          WHERE n.topic = m.topic AND n.lane = m.lane
                            AND n.position > m.position)"
                ), tables)?,
                truncate: render(concat!(
                    "TRUNCATE {schema}{prefix}outbox_stream_", $slot,
                    ", {schema}{prefix}outbox_mark_", $slot
                ), tables)?,
            },)*])
        }
    };
}

fn render(sql: &'static str, tables: &Tables) -> Result<Statement, NameError> {
    Statement::new(sql, tables, Dialect::Postgres)
}

pieces!("0", "1", "2", "3");

/// The statements of one piece.
pub(super) struct Piece {
    pub(super) slot: i64,
    pub(super) is_used: Statement,
    pub(super) unsettled: Statement,
    pub(super) lock: Statement,
    pub(super) fold: Statement,
    pub(super) truncate: Statement,
}

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// All statements.
        pub(in crate::store::postgres) struct RingStatements {
            $(pub(in crate::store::postgres) $name: Statement,)*
            pub(super) pieces: Vec<Piece>,
        }

        impl RingStatements {
            pub(in crate::store::postgres) fn new(tables: &Tables) -> Result<Self, NameError> {
                Ok(Self {
                    $($name: render($sql, tables)?,)*
                    pieces: pieces(tables)?,
                })
            }
        }
    };
}

statements! {
    // Nothing, while the topic's lanes are not yet all known as lanes of the ring.
    append: "INSERT INTO {schema}{prefix}outbox_stream
           (topic, lane, key, created_at, attributes, payload)
         SELECT $1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $4, $5
          WHERE EXISTS (SELECT 1 FROM {schema}{prefix}outbox_ring g WHERE g.topic = $1)",
    append_all: "INSERT INTO {schema}{prefix}outbox_stream
           (topic, lane, key, created_at, attributes, payload)
         SELECT $1, t.lane, t.key, c.now, t.attributes, t.payload
           FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now
                  WHERE EXISTS (SELECT 1 FROM {schema}{prefix}outbox_ring g WHERE g.topic = $1)) c,
                unnest($2::smallint[], $3::bytea[], $4::bytea[], $5::bytea[]) WITH ORDINALITY
                  AS t(lane, key, attributes, payload, place)
          ORDER BY t.place",
    insert_into: "INSERT INTO {schema}{prefix}outbox_stream
           (topic, lane, key, created_at, attributes, payload)",
    opened: "{schema}{prefix}outbox_ring",
    // Nobody holds it, and whoever did does not hold it any more: he thinks it is none. Whoever
    // claims it next, learns with the claim what it is.
    convert: concat!(
        "UPDATE {schema}{prefix}outbox_lane SET position = 0, epoch = epoch + 1
          WHERE topic = $1 AND position IS NULL AND lease_until <= ", now!()
    ),
    open: "INSERT INTO {schema}{prefix}outbox_ring (topic)
         SELECT $1 WHERE $2::bigint = (SELECT count(*) FROM {schema}{prefix}outbox_lane
                                        WHERE topic = $1 AND position IS NOT NULL)
             ON CONFLICT (topic) DO NOTHING",
    is_open: "SELECT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_ring WHERE topic = $1)",
    positions: concat!(
        "SELECT f.lane, coalesce(", position!("$1", "f.lane"), ", 0)
           FROM unnest($2::smallint[]) AS f(lane)"
    ),
    window: window!("", "FALSE"),
    window_waiting: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key
             AND a.until > (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)",
        "EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = s.topic AND a.lane = s.lane AND a.key = s.key
             AND a.until > (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)"
    ),
    window_aside: window!(
        "AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = o.topic AND a.lane = o.lane AND a.key = o.key)",
        "EXISTS (SELECT 1 FROM {schema}{prefix}outbox_aside a
           WHERE a.topic = s.topic AND a.lane = s.lane AND a.key = s.key)"
    ),
    // The rule: all that is passed was delivered. A lane of which that is not so stays where it
    // is, and is told of; nothing is believed about what is between.
    pass: concat!(
        "WITH mine AS MATERIALIZED (", mine!(), "),
         passed AS MATERIALIZED (
           SELECT t.lane, t.upto, ", position!("$1", "t.lane"), " AS position
             FROM unnest($5::smallint[], $6::bigint[]) AS t(lane, upto)
             JOIN mine ON mine.lane = t.lane),
         remaining AS MATERIALIZED (
           SELECT DISTINCT t.lane FROM passed t CROSS JOIN LATERAL (
             SELECT s.id FROM {schema}{prefix}outbox_stream s
              WHERE s.topic = $1 AND s.lane = t.lane AND s.id > t.position AND s.id <= t.upto
             OFFSET 0) x
            WHERE NOT EXISTS (SELECT 1 FROM unnest($7::bigint[]) AS d(id) WHERE d.id = x.id)),
         marked AS (INSERT INTO {schema}{prefix}outbox_mark (topic, lane, position)
           SELECT $1, t.lane, t.upto FROM passed t
            WHERE t.upto > t.position AND t.lane NOT IN (SELECT lane FROM remaining))
         SELECT mine.lane, mine.lane IN (SELECT lane FROM remaining) FROM mine"
    ),
    // The same, within a transaction that holds the lanes' rows: what was not delivered is moved
    // to the other table, where it lives on by its rules, under its own id.
    pass_and_move: concat!("WITH passed AS MATERIALIZED (
           SELECT t.lane, t.upto, ", position!("$1", "t.lane"), " AS position
             FROM unnest($2::smallint[], $3::bigint[]) AS t(lane, upto)),
         moved AS (INSERT INTO {schema}{prefix}outbox
             (id, topic, lane, key, created_at, not_before, attributes, payload)
           SELECT s.id, s.topic, s.lane, s.key, s.created_at, 0, s.attributes, s.payload
             FROM passed t CROSS JOIN LATERAL (
               SELECT * FROM {schema}{prefix}outbox_stream s
                WHERE s.topic = $1 AND s.lane = t.lane AND s.id > t.position AND s.id <= t.upto
               OFFSET 0) s
            WHERE NOT EXISTS (SELECT 1 FROM unnest($4::bigint[]) AS d(id) WHERE d.id = s.id)
               ON CONFLICT (topic, lane, id) DO NOTHING),
         marked AS (INSERT INTO {schema}{prefix}outbox_mark (topic, lane, position)
           SELECT $1, t.lane, t.upto FROM passed t WHERE t.upto > t.position)
         SELECT count(*) FROM passed"),
    keep: concat!(
        "INSERT INTO {schema}{prefix}outbox_kept
           (topic, id, key, created_at, delivered_at, attributes, payload)
         SELECT $1, s.id, s.key, s.created_at, ", now!(), ", s.attributes, s.payload
           FROM unnest($2::smallint[], $3::bigint[]) AS t(lane, id)
          CROSS JOIN LATERAL (SELECT * FROM {schema}{prefix}outbox_stream s
            WHERE s.topic = $1 AND s.lane = t.lane AND s.id = t.id
              AND s.id > ", position!("$1", "t.lane"), " LIMIT 1) s"
    ),
    // The pieces in which no ids are being given: neither the one of the last id nor the next.
    // How long a piece is, the table says.
    idle: "SELECT p.slot FROM generate_series(0::bigint, 3) AS p(slot),
           (SELECT substring(pg_get_partkeydef('{schema}{prefix}outbox_stream'::regclass)
                     FROM '/ ''?\\(?([0-9]+)')::bigint AS piece,
                   CASE WHEN has_sequence_privilege(q.name, 'SELECT, USAGE')
                     THEN pg_sequence_last_value(q.name::regclass)
                     ELSE (SELECT max(id) FROM {schema}{prefix}outbox_stream) END AS given
              FROM (SELECT pg_get_serial_sequence('{schema}{prefix}outbox', 'id') AS name) q) g
         WHERE p.slot NOT IN ((coalesce(g.given, 0) / g.piece) % 4,
                              (coalesce(g.given, 0) / g.piece + 1) % 4)
         ORDER BY p.slot",
    // One at a time, on all relays of these tables.
    turn: "SELECT pg_try_advisory_xact_lock(
             (1651864692::bigint << 32) | '{schema}{prefix}outbox_stream'::regclass::oid::bigint)",
    // No append waits longer behind it.
    impatience: "SET LOCAL lock_timeout = '50ms'",
}
