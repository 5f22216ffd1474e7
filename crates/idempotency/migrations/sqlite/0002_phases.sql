-- Phases that were passed, and requests that a completer finishes. All of it is NULL for a key that
-- has neither, or is done. progress: a line a phase: its name, a space, its output as JSON. request:
-- what was asked for. due_at: when a completer may have it; NULL when it is parked, too. drives: how
-- often one had it.
ALTER TABLE {prefix}idempotency ADD COLUMN progress BLOB;
ALTER TABLE {prefix}idempotency ADD COLUMN request BLOB;
ALTER TABLE {prefix}idempotency ADD COLUMN due_at INTEGER;
ALTER TABLE {prefix}idempotency ADD COLUMN drives INTEGER NOT NULL DEFAULT 0;

CREATE INDEX {prefix}idempotency_due ON {prefix}idempotency (due_at) WHERE due_at IS NOT NULL;
