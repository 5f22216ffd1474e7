CREATE TABLE IF NOT EXISTS {schema}{prefix}saga (
    id BINARY(16) NOT NULL,
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    -- What the definition looked like: another one does not touch it.
    shape BINARY(16) NOT NULL,
    business_key VARBINARY(255),
    -- The business key while it runs: one at a time.
    running_key VARBINARY(255),
    input LONGBLOB NOT NULL,
    -- 0 forward, 1 undoing, 2 completed, 3 undone, 4 needs attention.
    state BIGINT NOT NULL,
    reason VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    -- When it may be claimed: its next attempt, or the end of its lease.
    due_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    -- Of the claim that holds it.
    token BINARY(16),
    -- Whether the claim that holds it has a worker to itself, and how many of those died on it.
    alone BOOLEAN NOT NULL DEFAULT FALSE,
    lapses BIGINT NOT NULL DEFAULT 0,
    entries BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (id),
    UNIQUE KEY {prefix}saga_running (name, running_key),
    KEY {prefix}saga_due (name, version, state, due_at),
    KEY {prefix}saga_listed (state, id),
    KEY {prefix}saga_ended (ended_at),
    KEY {prefix}saga_key (name, business_key, id)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS {schema}{prefix}saga_journal (
    saga_id BINARY(16) NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    entry LONGBLOB NOT NULL,
    PRIMARY KEY (saga_id, seq)
) ENGINE=InnoDB;
