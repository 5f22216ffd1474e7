CREATE TABLE {schema}{prefix}saga (
    id bytea PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    -- What the definition looked like: another one does not touch it.
    shape bytea NOT NULL,
    business_key bytea,
    -- The business key while it runs: one at a time.
    running_key bytea,
    input bytea NOT NULL,
    -- 0 forward, 1 undoing, 2 completed, 3 undone, 4 needs attention.
    state bigint NOT NULL,
    reason text,
    -- When it may be claimed: its next attempt, or the end of its lease.
    due_at bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    -- Of the claim that holds it.
    token bytea,
    -- Whether the claim that holds it has a worker to itself, and how many of those died on it.
    alone boolean NOT NULL DEFAULT false,
    lapses bigint NOT NULL DEFAULT 0,
    entries bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    ended_at bigint
);
CREATE UNIQUE INDEX {prefix}saga_running ON {schema}{prefix}saga (name, running_key) WHERE running_key IS NOT NULL;
CREATE INDEX {prefix}saga_due ON {schema}{prefix}saga (name, version, due_at) WHERE state < 2;
CREATE INDEX {prefix}saga_listed ON {schema}{prefix}saga (state, id);
CREATE INDEX {prefix}saga_ended ON {schema}{prefix}saga (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX {prefix}saga_key ON {schema}{prefix}saga (name, business_key, id) WHERE business_key IS NOT NULL;
CREATE TABLE {schema}{prefix}saga_journal (
    saga_id bytea NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    epoch bigint NOT NULL,
    entry bytea NOT NULL,
    PRIMARY KEY (saga_id, seq)
);
