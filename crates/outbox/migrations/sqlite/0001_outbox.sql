CREATE TABLE {prefix}outbox (
    topic      TEXT NOT NULL,
    lane       INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    key        BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    attributes BLOB NOT NULL,
    payload    BLOB NOT NULL,
    PRIMARY KEY (topic, lane, id)
) WITHOUT ROWID;

-- A table without rowids has no AUTOINCREMENT. An id is taken in the transaction that uses it, so
-- ids are in the order of commits and are never used again.
CREATE TABLE {prefix}outbox_sequence (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
INSERT INTO {prefix}outbox_sequence (one, last) VALUES (1, 0);

CREATE TABLE {prefix}outbox_lane (
    topic       TEXT NOT NULL,
    lane        INTEGER NOT NULL,
    epoch       INTEGER NOT NULL DEFAULT 0,
    token       BLOB,
    lease_until INTEGER NOT NULL DEFAULT 0,
    alone       INTEGER,
    PRIMARY KEY (topic, lane)
) WITHOUT ROWID;

CREATE TABLE {prefix}outbox_aside (
    topic    TEXT NOT NULL,
    lane     INTEGER NOT NULL,
    key      BLOB NOT NULL,
    head     INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    lapses   INTEGER NOT NULL,
    waits    INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    error    TEXT NOT NULL,
    PRIMARY KEY (topic, lane, key)
) WITHOUT ROWID;

CREATE TABLE {prefix}outbox_dead (
    topic      TEXT NOT NULL,
    id         INTEGER NOT NULL,
    lane       INTEGER NOT NULL,
    key        BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    attributes BLOB NOT NULL,
    payload    BLOB NOT NULL,
    failures   INTEGER NOT NULL,
    lapses     INTEGER NOT NULL,
    died_at    INTEGER NOT NULL,
    error      TEXT NOT NULL,
    PRIMARY KEY (topic, id)
) WITHOUT ROWID;

CREATE TABLE {prefix}outbox_kept (
    topic        TEXT NOT NULL,
    id           INTEGER NOT NULL,
    key          BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL,
    attributes   BLOB NOT NULL,
    payload      BLOB NOT NULL
);
CREATE INDEX {prefix}outbox_kept_age ON {prefix}outbox_kept (topic, delivered_at);

CREATE TABLE {prefix}outbox_topic (
    topic     TEXT NOT NULL PRIMARY KEY,
    paused_at INTEGER,
    reason    TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE {prefix}outbox_relay (
    topic TEXT NOT NULL,
    relay BLOB NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (topic, relay)
) WITHOUT ROWID;

CREATE TABLE {prefix}inbox (
    consumer BLOB NOT NULL,
    message  BLOB NOT NULL,
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, message)
) WITHOUT ROWID;
CREATE INDEX {prefix}inbox_age ON {prefix}inbox (taken_at);
