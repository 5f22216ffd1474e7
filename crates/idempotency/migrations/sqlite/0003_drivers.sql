-- Which completers may have a key whose request was kept: those of this name. Programs may share the
-- table, and none is given the requests of another.
ALTER TABLE {prefix}idempotency ADD COLUMN driver BLOB NOT NULL DEFAULT x'';

CREATE INDEX {prefix}idempotency_driver ON {prefix}idempotency (driver, due_at)
    WHERE due_at IS NOT NULL;
DROP INDEX {prefix}idempotency_due;
