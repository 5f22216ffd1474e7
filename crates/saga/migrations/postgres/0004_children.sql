-- The saga whose child it is. What wakes a parent is counted with its signals.
ALTER TABLE {schema}{prefix}saga ADD COLUMN parent bytea;
CREATE INDEX {prefix}saga_parent ON {schema}{prefix}saga (parent, id) WHERE parent IS NOT NULL;
