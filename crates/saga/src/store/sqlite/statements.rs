//! The statements of SQLite, rendered once.

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
    pub(super) written: Statement,
    pub(super) not_sent: Statement,
    pub(super) signal: Statement,
    pub(super) wake: Statement,
    pub(super) wake_parent: Statement,
    pub(super) signals: Statement,
    pub(super) read: Statement,
    pub(super) list: Statement,
    pub(super) census: Statement,
    pub(super) old: Statement,
    pub(super) prune_lines: Statement,
    pub(super) prune_signals: Statement,
    pub(super) prune: Statement,
}

/// `?1` is the time.
macro_rules! columns {
    () => {
        "id, name, version, shape, business_key, input, state, reason, due_at, epoch, \
         token IS NOT NULL, lapses, entries, created_at, ended_at, parent, ?1"
    };
}

impl Statements {
    pub(super) fn new(tables: &Tables) -> Result<Self, NameError> {
        let render = |sql| Statement::new(sql, tables, Dialect::Sqlite);
        Ok(Self {
            insert: render(
                "INSERT INTO {prefix}saga (id, name, version, shape, business_key, running_key, input, parent, state, due_at, created_at) \
                 VALUES (?2, ?3, ?4, ?5, ?6, CASE WHEN ?8 IS NULL THEN ?6 END, ?7, ?8, 0, ?1, ?1) ON CONFLICT DO NOTHING",
            )?,
            rival: render(
                "SELECT id FROM {prefix}saga WHERE id = ?1 OR (name = ?2 AND running_key = ?3) ORDER BY id = ?1 DESC LIMIT 1",
            )?,
            claim: render(concat!(
                "UPDATE {prefix}saga SET epoch = epoch + 1, token = ?6, alone = 0, due_at = ?1 + ?7 WHERE id IN (",
                "SELECT id FROM {prefix}saga WHERE name = ?2 AND version = ?3 AND shape = ?4 AND state < 2 ",
                "AND token IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?5) RETURNING ",
                columns!()
            ))?,
            claim_lapsed: render(concat!(
                "UPDATE {prefix}saga SET epoch = epoch + 1, token = ?6, lapses = lapses + alone, alone = ?8, ",
                "due_at = ?1 + ?7 WHERE id IN (",
                "SELECT id FROM {prefix}saga WHERE name = ?2 AND version = ?3 AND shape = ?4 AND state < 2 ",
                "AND token IS NOT NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?5) RETURNING ",
                columns!()
            ))?,
            lines: render(
                "SELECT saga_id, at, epoch, entry FROM {prefix}saga_journal WHERE saga_id = ?1 ORDER BY seq",
            )?,
            extend: render(
                "UPDATE {prefix}saga SET due_at = ?1 + ?5 WHERE id = ?2 AND epoch = ?3 AND token = ?4",
            )?,
            append: render(
                "UPDATE {prefix}saga SET entries = entries + ?6, state = ?7, reason = ?8, \
                 epoch = CASE WHEN ?3 THEN epoch ELSE epoch + 1 END, \
                 token = CASE WHEN ?9 OR ?7 >= 2 OR NOT ?3 THEN NULL ELSE token END, \
                 due_at = CASE WHEN ?9 THEN ?1 + CASE WHEN woken + (SELECT count(*) FROM {prefix}saga_signal WHERE saga_id = ?2) > ?13 THEN 0 ELSE ?10 END ELSE due_at END, \
                 listens = CASE WHEN ?9 THEN ?13 IS NOT NULL ELSE listens END, \
                 alone = alone AND NOT ?11, lapses = CASE WHEN ?11 THEN 0 ELSE lapses END, \
                 running_key = CASE WHEN ?7 IN (2, 3) THEN NULL ELSE running_key END, \
                 ended_at = CASE WHEN ?7 IN (2, 3) THEN ?1 END \
                 WHERE id = ?2 AND entries = ?12 AND (NOT ?3 OR (epoch = ?4 AND token = ?5))",
            )?,
            // All lines at once: texts in an array of JSON, which come back as the bytes they were.
            written: render(
                "INSERT INTO {prefix}saga_journal (saga_id, seq, at, epoch, entry) \
                 SELECT saga.id, ?3 + line.key, ?1, saga.epoch, CAST(line.value AS BLOB) \
                 FROM {prefix}saga AS saga, json_each(?4) AS line WHERE saga.id = ?2",
            )?,
            not_sent: render(
                "SELECT EXISTS (SELECT 1 FROM {prefix}saga_signal WHERE saga_id = ?1 AND signal_key = ?2), \
                 (SELECT state FROM {prefix}saga WHERE id = ?1), \
                 (SELECT count(*) FROM {prefix}saga_signal WHERE saga_id = ?1)",
            )?,
            signal: render(
                "INSERT INTO {prefix}saga_signal (saga_id, signal_key, seq, at, name, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            wake: render(
                "UPDATE {prefix}saga SET due_at = min(due_at, ?1) WHERE id = ?2 AND listens AND token IS NULL",
            )?,
            wake_parent: render(
                "UPDATE {prefix}saga SET woken = woken + 1, \
                 due_at = CASE WHEN listens AND token IS NULL THEN min(due_at, ?1) ELSE due_at END WHERE id = ?2",
            )?,
            signals: render(
                "SELECT (SELECT count(*) FROM {prefix}saga_signal WHERE saga_id = ?1) \
                 + coalesce((SELECT woken FROM {prefix}saga WHERE id = ?1), 0), f.at, f.payload FROM (SELECT 1) \
                 LEFT JOIN (SELECT at, payload FROM {prefix}saga_signal WHERE saga_id = ?1 AND name = ?2 \
                 ORDER BY seq LIMIT 1) AS f",
            )?,
            read: render(concat!(
                "SELECT ",
                columns!(),
                " FROM {prefix}saga WHERE id = ?2"
            ))?,
            list: render(concat!(
                "SELECT ",
                columns!(),
                " FROM {prefix}saga WHERE (?2 IS NULL OR name = ?2) ",
                "AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR business_key = ?4) ",
                "AND (?5 IS NULL OR id < ?5) AND (?7 IS NULL OR parent = ?7) ORDER BY id DESC LIMIT ?6"
            ))?,
            census: render(
                "SELECT name, version, shape, state, count(*), min(due_at), ?1 FROM {prefix}saga GROUP BY name, version, shape, state",
            )?,
            old: render(
                "SELECT id FROM {prefix}saga AS s WHERE ended_at < ?1 \
                 AND NOT EXISTS (SELECT 1 FROM {prefix}saga AS parent WHERE parent.id = s.parent) LIMIT ?2",
            )?,
            prune_lines: render("DELETE FROM {prefix}saga_journal WHERE saga_id = ?1")?,
            prune_signals: render("DELETE FROM {prefix}saga_signal WHERE saga_id = ?1")?,
            prune: render("DELETE FROM {prefix}saga WHERE id = ?1")?,
        })
    }
}
