CREATE TABLE {prefix}saga (
    id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- What the definition looked like: another one does not touch it.
    shape BLOB NOT NULL,
    business_key BLOB,
    -- The business key while it runs: one at a time.
    running_key BLOB,
    input BLOB NOT NULL,
    -- 0 forward, 1 undoing, 2 completed, 3 undone, 4 needs attention.
    state INTEGER NOT NULL,
    reason TEXT,
    -- When it may be claimed: its next attempt, or the end of its lease.
    due_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    -- Of the claim that holds it.
    token BLOB,
    -- Whether the claim that holds it has a worker to itself, and how many of those died on it.
    alone INTEGER NOT NULL DEFAULT 0,
    lapses INTEGER NOT NULL DEFAULT 0,
    entries INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX {prefix}saga_running ON {prefix}saga (name, running_key) WHERE running_key IS NOT NULL;
CREATE INDEX {prefix}saga_due ON {prefix}saga (name, version, due_at) WHERE state < 2;
CREATE INDEX {prefix}saga_listed ON {prefix}saga (state, id);
CREATE INDEX {prefix}saga_ended ON {prefix}saga (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX {prefix}saga_key ON {prefix}saga (name, business_key, id) WHERE business_key IS NOT NULL;
CREATE TABLE {prefix}saga_journal (
    saga_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (saga_id, seq)
) WITHOUT ROWID;
