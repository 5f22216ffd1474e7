//! The statements of PostgreSQL, rendered once.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The statements, with the names of the tables in them.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    pub(super) insert: Statement,
    pub(super) rival: Statement,
    pub(super) claim: Statement,
    pub(super) claim_lapsed: Statement,
    pub(super) lines: Statement,
    pub(super) extend: Statement,
    pub(super) append: Statement,
    pub(super) append_and_reach: Statement,
    pub(super) append_all: Statement,
    pub(super) release: Statement,
    pub(super) signal: Statement,
    pub(super) not_sent: Statement,
    pub(super) signals: Statement,
    pub(super) read: Statement,
    pub(super) list: Statement,
    pub(super) census: Statement,
    pub(super) prune: Statement,
}

/// The server's clock. Statements are literals, so it is a macro.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! columns {
    ($of:literal) => {
        concat!(
            $of,
            "id, ",
            $of,
            "name, ",
            $of,
            "version, ",
            $of,
            "shape, ",
            $of,
            "business_key, ",
            $of,
            "input, ",
            $of,
            "state, ",
            $of,
            "reason, ",
            $of,
            "due_at, ",
            $of,
            "epoch, (",
            $of,
            "token IS NOT NULL)::int::bigint, ",
            $of,
            "lapses, ",
            $of,
            "entries, ",
            $of,
            "created_at, ",
            $of,
            "ended_at, ",
            $of,
            "parent, ",
            now!()
        )
    };
}

/// What a write does to the saga's row. A claim's holder says which claim it is.
macro_rules! move_saga {
    () => {
        concat!(
            "UPDATE {schema}{prefix}saga SET entries = entries + $5, state = $6, reason = $7, ",
            "epoch = CASE WHEN $2 THEN epoch ELSE epoch + 1 END, ",
            "token = CASE WHEN $8 OR $6 >= 2 OR NOT $2 THEN NULL ELSE token END, ",
            "due_at = CASE WHEN $8 THEN ",
            now!(),
            " + CASE WHEN signals > $12 THEN 0 ELSE $9 END ELSE due_at END, ",
            "listens = CASE WHEN $8 THEN $12::bigint IS NOT NULL ELSE listens END, ",
            "alone = alone AND NOT $10, lapses = CASE WHEN $10 THEN 0 ELSE lapses END, ",
            "running_key = CASE WHEN $6 IN (2, 3) THEN NULL ELSE running_key END, ",
            "ended_at = CASE WHEN $6 IN (2, 3) THEN ",
            now!(),
            " END ",
            "WHERE id = $1 AND entries = $11 AND (NOT $2 OR (epoch = $3 AND token = $4))"
        )
    };
}

impl Statements {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Postgres);
        Ok(Self {
            insert: render(concat!(
                "INSERT INTO {schema}{prefix}saga (id, name, version, shape, business_key, ",
                "running_key, input, parent, state, due_at, created_at) ",
                "VALUES ($1, $2, $3, $4, $5, CASE WHEN $7::bytea IS NULL THEN $5 END, $6, $7, 0, ",
                now!(),
                ", ",
                now!(),
                ") ",
                "ON CONFLICT DO NOTHING"
            ))?,
            rival: render(concat!(
                "SELECT id FROM {schema}{prefix}saga WHERE id = $1 OR (name = $2 AND running_key = $3) ",
                "ORDER BY id = $1 DESC LIMIT 1"
            ))?,
            claim: render(concat!(
                "WITH due AS MATERIALIZED (SELECT id AS due_id FROM {schema}{prefix}saga ",
                "WHERE name = $1 AND version = $2 AND shape = $3 AND state < 2 AND token IS NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) ",
                "UPDATE {schema}{prefix}saga AS s SET epoch = epoch + 1, token = $5, alone = false, ",
                "due_at = ",
                now!(),
                " + $6 FROM due WHERE s.id = due_id RETURNING ",
                columns!("s.")
            ))?,
            claim_lapsed: render(concat!(
                "WITH due AS MATERIALIZED (SELECT id AS due_id FROM {schema}{prefix}saga ",
                "WHERE name = $1 AND version = $2 AND shape = $3 AND state < 2 AND token IS NOT NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) ",
                "UPDATE {schema}{prefix}saga AS s SET epoch = epoch + 1, token = $5, ",
                "lapses = lapses + alone::int, alone = $7, ",
                "due_at = ",
                now!(),
                " + $6 FROM due WHERE s.id = due_id RETURNING ",
                columns!("s.")
            ))?,
            lines: render(
                "SELECT saga_id, at, epoch, entry FROM {schema}{prefix}saga_journal WHERE saga_id = ANY($1) ORDER BY saga_id, seq",
            )?,
            extend: render(concat!(
                "UPDATE {schema}{prefix}saga SET due_at = ",
                now!(),
                " + $4 WHERE id = $1 AND epoch = $2 AND token = $3"
            ))?,
            append: render(concat!(
                "WITH moved AS (",
                move_saga!(),
                " RETURNING id, epoch) ",
                "INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT moved.id, $11 + line.place - 1, ",
                now!(),
                ", moved.epoch, line.entry ",
                "FROM moved, unnest($13::bytea[]) WITH ORDINALITY AS line (entry, place)"
            ))?,
            // A parent's row is locked behind its child's, and never the other way round: a child that
            // is started is a new row.
            append_and_reach: render(concat!(
                "WITH moved AS (",
                move_saga!(),
                " RETURNING id, epoch), ",
                "written AS (INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT moved.id, $11 + line.place - 1, ",
                now!(),
                ", moved.epoch, line.entry ",
                "FROM moved, unnest($13::bytea[]) WITH ORDINALITY AS line (entry, place)), ",
                "born AS (INSERT INTO {schema}{prefix}saga ",
                "(id, name, version, shape, business_key, input, parent, state, due_at, created_at) ",
                "SELECT new.id, new.name, new.version, new.shape, new.key, new.input, new.parent, 0, ",
                now!(),
                ", ",
                now!(),
                " FROM moved, unnest($14::bytea[], $15::text[], $16::bigint[], $17::bytea[], $18::bytea[], ",
                "$19::bytea[], $20::bytea[]) AS new (id, name, version, shape, key, input, parent) ",
                "ON CONFLICT DO NOTHING), ",
                "woken AS (UPDATE {schema}{prefix}saga AS parent SET signals = parent.signals + 1, ",
                "due_at = CASE WHEN parent.token IS NULL AND parent.listens THEN least(parent.due_at, ",
                now!(),
                ") ELSE parent.due_at END FROM moved WHERE parent.id = $21) ",
                "SELECT id FROM moved"
            ))?,
            // Whose row somebody locks is left out: nobody waits, so nobody can wait in a circle.
            append_all: render(concat!(
                "WITH free AS MATERIALIZED (SELECT asked.* FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], ",
                "$4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::boolean[], $9::bigint[], $13::bigint[]) WITH ORDINALITY ",
                "AS asked (id, epoch, token, lines, state, reason, after, progress, expected, seen, place) ",
                "JOIN {schema}{prefix}saga AS s ON s.id = asked.id AND s.epoch = asked.epoch ",
                "AND s.token = asked.token AND s.entries = asked.expected FOR UPDATE OF s SKIP LOCKED), ",
                "moved AS (UPDATE {schema}{prefix}saga AS s SET entries = s.entries + free.lines, ",
                "state = free.state, reason = free.reason, ",
                "token = CASE WHEN free.after IS NOT NULL OR free.state >= 2 THEN NULL ELSE s.token END, ",
                "due_at = CASE WHEN free.after IS NOT NULL THEN ",
                now!(),
                " + CASE WHEN s.signals > free.seen THEN 0 ELSE free.after END ELSE s.due_at END, ",
                "listens = CASE WHEN free.after IS NOT NULL THEN free.seen IS NOT NULL ELSE s.listens END, ",
                "alone = s.alone AND NOT free.progress, lapses = CASE WHEN free.progress THEN 0 ELSE s.lapses END, ",
                "running_key = CASE WHEN free.state IN (2, 3) THEN NULL ELSE s.running_key END, ",
                "ended_at = CASE WHEN free.state IN (2, 3) THEN ",
                now!(),
                " END ",
                "FROM free WHERE s.id = free.id AND s.epoch = free.epoch AND s.token = free.token ",
                "AND s.entries = free.expected RETURNING s.id, s.epoch, free.expected, free.place), ",
                "written AS (INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT moved.id, moved.expected + line.seq, ",
                now!(),
                ", moved.epoch, line.entry FROM moved ",
                "JOIN unnest($10::bigint[], $11::bigint[], $12::bytea[]) AS line (of, seq, entry) ON line.of = moved.place) ",
                "SELECT place FROM moved"
            ))?,
            release: render(move_saga!())?,
            // The row's lock puts signals and releases in an order: whoever is second sees the first.
            signal: render(concat!(
                "WITH woken AS (UPDATE {schema}{prefix}saga SET signals = signals + 1, ",
                "due_at = CASE WHEN token IS NULL AND listens THEN least(due_at, ",
                now!(),
                ") ELSE due_at END WHERE id = $1 AND state IN (0, 4) AND signals - ",
                // What woke it is counted as well; of a saga that goes forward each child did, once.
                "(SELECT count(*) FROM {schema}{prefix}saga AS child WHERE child.parent = $1 AND child.ended_at IS NOT NULL) ",
                "< $5 AND NOT EXISTS ",
                "(SELECT FROM {schema}{prefix}saga_signal WHERE saga_id = $1 AND signal_key = $2) RETURNING signals) ",
                "INSERT INTO {schema}{prefix}saga_signal (saga_id, signal_key, seq, at, name, payload) SELECT $1, $2, signals, ",
                now!(),
                ", $3, $4 FROM woken ON CONFLICT DO NOTHING"
            ))?,
            not_sent: render(
                "SELECT EXISTS (SELECT FROM {schema}{prefix}saga_signal WHERE saga_id = $1 AND signal_key = $2), \
                 (SELECT state FROM {schema}{prefix}saga WHERE id = $1)",
            )?,
            signals: render(
                "SELECT s.signals, f.at, f.payload FROM {schema}{prefix}saga AS s LEFT JOIN LATERAL \
                 (SELECT at, payload FROM {schema}{prefix}saga_signal WHERE saga_id = s.id AND name = $2 \
                 ORDER BY seq LIMIT 1) AS f ON true WHERE s.id = $1",
            )?,
            read: render(concat!(
                "SELECT ",
                columns!(""),
                " FROM {schema}{prefix}saga WHERE id = ANY($1)"
            ))?,
            list: render(concat!(
                "SELECT ",
                columns!(""),
                " FROM {schema}{prefix}saga WHERE ($1::text IS NULL OR name = $1) ",
                "AND ($2::bigint IS NULL OR state = $2) AND ($3::bytea IS NULL OR business_key = $3) ",
                "AND ($4::bytea IS NULL OR id < $4) AND ($6::bytea IS NULL OR parent = $6) ORDER BY id DESC LIMIT $5"
            ))?,
            census: render(concat!(
                "SELECT name, version, shape, state, count(*), min(due_at), ",
                now!(),
                " FROM {schema}{prefix}saga GROUP BY name, version, shape, state"
            ))?,
            prune: render(concat!(
                "WITH old AS MATERIALIZED (SELECT s.id FROM {schema}{prefix}saga AS s WHERE s.ended_at < ",
                now!(),
                " - $1 AND NOT EXISTS (SELECT FROM {schema}{prefix}saga AS parent WHERE parent.id = s.parent) ",
                "LIMIT $2 FOR UPDATE OF s SKIP LOCKED), ",
                "lines AS (DELETE FROM {schema}{prefix}saga_journal WHERE saga_id IN (SELECT id FROM old)), ",
                "sent AS (DELETE FROM {schema}{prefix}saga_signal WHERE saga_id IN (SELECT id FROM old)) ",
                "DELETE FROM {schema}{prefix}saga WHERE id IN (SELECT id FROM old)"
            ))?,
        })
    }
}
