-- Phases that were passed, and requests that a completer finishes. All of it is NULL for a key that
-- has neither, or is done.
ALTER TABLE {schema}{prefix}idempotency
    -- A line a phase: its name, a space, its output as JSON.
    ADD COLUMN progress BYTEA,
    -- What was asked for, until it is done.
    ADD COLUMN request BYTEA,
    -- When a completer may have it; NULL when it is parked, too.
    ADD COLUMN due_at BIGINT,
    -- How often one had it.
    ADD COLUMN drives BIGINT NOT NULL DEFAULT 0;

CREATE INDEX {prefix}idempotency_due ON {schema}{prefix}idempotency (due_at)
    WHERE due_at IS NOT NULL;
