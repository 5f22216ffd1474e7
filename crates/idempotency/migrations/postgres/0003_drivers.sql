-- Which completers may have a key whose request was kept: those of this name. Programs may share the
-- table, and none is given the requests of another.
ALTER TABLE {schema}{prefix}idempotency ADD COLUMN driver BYTEA NOT NULL DEFAULT '';

CREATE INDEX {prefix}idempotency_driver ON {schema}{prefix}idempotency (driver, due_at)
    WHERE due_at IS NOT NULL;
DROP INDEX {schema}{prefix}idempotency_due;
