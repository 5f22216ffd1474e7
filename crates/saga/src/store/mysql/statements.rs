//! The statements of MySQL, rendered once.

use buttress_store::{Dialect, NameError, Statement, Tables};

/// The statements, with the names of the tables in them.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    pub(super) insert: Statement,
    pub(super) rival: Statement,
    pub(super) due: Statement,
    pub(super) due_lapsed: Statement,
    pub(super) died: Statement,
    pub(super) claim: Statement,
    pub(super) read: Statement,
    pub(super) lines: Statement,
    pub(super) extend: Statement,
    pub(super) append: Statement,
    pub(super) line: Statement,
    pub(super) listen: Statement,
    pub(super) unseen: Statement,
    pub(super) lock: Statement,
    pub(super) not_sent: Statement,
    pub(super) signal: Statement,
    pub(super) hears: Statement,
    pub(super) hear: Statement,
    pub(super) wake: Statement,
    pub(super) adopt: Statement,
    pub(super) count_child: Statement,
    pub(super) signals: Statement,
    pub(super) list: Statement,
    pub(super) census: Statement,
    pub(super) old: Statement,
    pub(super) prune_lines: Statement,
    pub(super) prune_signals: Statement,
    pub(super) prune_listens: Statement,
    pub(super) prune_child: Statement,
    pub(super) prune: Statement,
}

/// The server's clock. Statements are literals, so it is a macro.
macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
    };
}

macro_rules! columns {
    () => {
        concat!(
            "id, name, version, shape, business_key, input, state, reason, due_at, epoch, ",
            "CAST(token IS NOT NULL AS SIGNED), lapses, entries, created_at, ended_at, ",
            "(SELECT c.parent FROM {schema}{prefix}saga_child AS c WHERE c.saga_id = id), ",
            now!()
        )
    };
}

/// The ids that are asked for, bound as one JSON array of hexadecimal digits: MySQL binds no arrays, and a trip for each
/// would make a page of sagas as slow as its network.
macro_rules! asked {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (hex CHAR(32) PATH '$')) AS asked"
    };
}

impl Statements {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::MySql);
        Ok(Self {
            // A duplicate is refused, which takes back this statement and no other.
            insert: render(concat!(
                "INSERT INTO {schema}{prefix}saga (id, name, version, shape, business_key, running_key, input, state, due_at, created_at) ",
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0, ",
                now!(),
                ", ",
                now!(),
                ")"
            ))?,
            // The latest committed, not the transaction's snapshot.
            rival: render(
                "SELECT id FROM {schema}{prefix}saga WHERE id = ? OR (name = ? AND running_key = ?) \
                 ORDER BY id = ? DESC LIMIT 1 LOCK IN SHARE MODE",
            )?,
            // In the order of its index, of one state: whoever sorts locks all that is due, and others who
            // claim find nothing.
            due: render(concat!(
                "SELECT id, due_at FROM {schema}{prefix}saga FORCE INDEX ({prefix}saga_due) ",
                "WHERE name = ? AND version = ? AND shape = ? AND state = ? AND token IS NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            due_lapsed: render(concat!(
                "SELECT id, due_at FROM {schema}{prefix}saga FORCE INDEX ({prefix}saga_due) ",
                "WHERE name = ? AND version = ? AND shape = ? AND state = ? AND token IS NOT NULL AND due_at <= ",
                now!(),
                " ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            // Of those whose holders died. In a join nobody says in which order assignments are made.
            died: render(concat!(
                "UPDATE ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga AS s ON s.id = UNHEX(asked.hex) SET s.lapses = s.lapses + s.alone"
            ))?,
            claim: render(concat!(
                "UPDATE ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga AS s ON s.id = UNHEX(asked.hex) ",
                "SET s.epoch = s.epoch + 1, s.alone = ?, s.token = ?, s.due_at = ",
                now!(),
                " + ?"
            ))?,
            read: render(concat!(
                "SELECT ",
                columns!(),
                " FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga ON id = UNHEX(asked.hex)"
            ))?,
            lines: render(concat!(
                "SELECT l.saga_id, l.at, l.epoch, l.entry FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga_journal AS l ON l.saga_id = UNHEX(asked.hex) ",
                "ORDER BY l.saga_id, l.seq"
            ))?,
            extend: render(concat!(
                "UPDATE {schema}{prefix}saga SET due_at = ",
                now!(),
                " + ? WHERE id = ? AND epoch = ? AND token = ?"
            ))?,
            append: render(concat!(
                "UPDATE {schema}{prefix}saga SET entries = entries + ?, state = ?, reason = ?, ",
                "epoch = epoch + ?, token = CASE WHEN ? THEN NULL ELSE token END, ",
                "due_at = CASE WHEN ? THEN ",
                now!(),
                " + ? ELSE due_at END, ",
                "alone = CASE WHEN ? THEN FALSE ELSE alone END, lapses = CASE WHEN ? THEN 0 ELSE lapses END, ",
                "running_key = CASE WHEN ? THEN NULL ELSE running_key END, ",
                "ended_at = CASE WHEN ? THEN ",
                now!(),
                " ELSE NULL END ",
                "WHERE id = ? AND entries = ? AND (? OR (epoch = ? AND token = ?))"
            ))?,
            line: render(concat!(
                "INSERT INTO {schema}{prefix}saga_journal (saga_id, seq, at, epoch, entry) ",
                "SELECT id, ?, ",
                now!(),
                ", epoch, ? FROM {schema}{prefix}saga WHERE id = ?"
            ))?,
            // It listens as long as its epoch is this one: until the next claim.
            listen: render(
                "INSERT INTO {schema}{prefix}saga_listens (saga_id, epoch) \
                 SELECT id, epoch FROM {schema}{prefix}saga WHERE id = ? \
                 ON DUPLICATE KEY UPDATE epoch = VALUES(epoch)",
            )?,
            // The row is locked by now, so this sees every signal that came before.
            unseen: render(concat!(
                "UPDATE {schema}{prefix}saga SET due_at = ",
                now!(),
                " WHERE id = ? AND (SELECT COUNT(*) FROM {schema}{prefix}saga_signal WHERE saga_id = ?) ",
                "+ (SELECT COALESCE(SUM(woken), 0) FROM {schema}{prefix}saga_child WHERE parent = ?) > ?"
            ))?,
            lock: render("SELECT state FROM {schema}{prefix}saga WHERE id = ? FOR UPDATE")?,
            // Without locks: at the level of a transaction of the user's they would be on what is not
            // there as well, and keep others from sending to other sagas. What was sent after such a
            // transaction had begun to read may be missing; the key's uniqueness finds it.
            not_sent: render(
                "SELECT CAST(COALESCE(SUM(signal_key = ?), 0) AS SIGNED), COUNT(*) FROM {schema}{prefix}saga_signal WHERE saga_id = ?",
            )?,
            // Under the lock of the saga's row, so what comes later is later.
            signal: render(concat!(
                "INSERT INTO {schema}{prefix}saga_signal (saga_id, signal_key, seq, at, name, payload) VALUES (?, ?, ?, ",
                now!(),
                ", ?, ?)"
            ))?,
            hears: render("SELECT 1 FROM {schema}{prefix}saga_listens WHERE saga_id = ?")?,
            // No claim has this epoch.
            hear: render(
                "INSERT INTO {schema}{prefix}saga_listens (saga_id, epoch) VALUES (?, -1) ON DUPLICATE KEY UPDATE epoch = epoch",
            )?,
            wake: render(concat!(
                "UPDATE {schema}{prefix}saga AS s JOIN {schema}{prefix}saga_listens AS l ON l.saga_id = s.id AND l.epoch = s.epoch ",
                "SET s.due_at = LEAST(s.due_at, ",
                now!(),
                ") WHERE s.id = ? AND s.token IS NULL"
            ))?,
            adopt: render(
                "INSERT INTO {schema}{prefix}saga_child (saga_id, parent) VALUES (?, ?)",
            )?,
            count_child: render(
                "UPDATE {schema}{prefix}saga_child SET woken = woken + 1 WHERE saga_id = ?",
            )?,
            signals: render(
                "SELECT (SELECT COUNT(*) FROM {schema}{prefix}saga_signal WHERE saga_id = ?) \
                 + (SELECT CAST(COALESCE(SUM(woken), 0) AS SIGNED) FROM {schema}{prefix}saga_child WHERE parent = ?), f.at, f.payload FROM (SELECT 1) AS one \
                 LEFT JOIN (SELECT at, payload FROM {schema}{prefix}saga_signal WHERE saga_id = ? AND name = ? \
                 ORDER BY at, seq LIMIT 1) AS f ON TRUE",
            )?,
            list: render(concat!(
                "SELECT ",
                columns!(),
                " FROM {schema}{prefix}saga WHERE (? IS NULL OR name = ?) ",
                "AND (? IS NULL OR state = ?) AND (? IS NULL OR business_key = ?) ",
                "AND (? IS NULL OR id < ?) ",
                "AND (? IS NULL OR id IN (SELECT saga_id FROM {schema}{prefix}saga_child WHERE parent = ?)) ORDER BY id DESC LIMIT ?"
            ))?,
            census: render(concat!(
                "SELECT name, version, shape, state, COUNT(*), MIN(due_at), ",
                now!(),
                " FROM {schema}{prefix}saga GROUP BY name, version, shape, state"
            ))?,
            old: render(concat!(
                "SELECT s.id FROM {schema}{prefix}saga AS s WHERE s.ended_at < ",
                now!(),
                " - ? AND NOT EXISTS (SELECT 1 FROM {schema}{prefix}saga_child AS c ",
                "JOIN {schema}{prefix}saga AS parent ON parent.id = c.parent WHERE c.saga_id = s.id) ",
                "LIMIT ? FOR UPDATE SKIP LOCKED"
            ))?,
            prune_lines: render(concat!(
                "DELETE gone FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga_journal AS gone ON gone.saga_id = UNHEX(asked.hex)"
            ))?,
            prune_signals: render(concat!(
                "DELETE gone FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga_signal AS gone ON gone.saga_id = UNHEX(asked.hex)"
            ))?,
            prune_listens: render(concat!(
                "DELETE gone FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga_listens AS gone ON gone.saga_id = UNHEX(asked.hex)"
            ))?,
            prune_child: render(concat!(
                "DELETE gone FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga_child AS gone ON gone.saga_id = UNHEX(asked.hex)"
            ))?,
            prune: render(concat!(
                "DELETE gone FROM ",
                asked!(),
                " STRAIGHT_JOIN {schema}{prefix}saga AS gone ON gone.id = UNHEX(asked.hex)"
            ))?,
        })
    }
}
