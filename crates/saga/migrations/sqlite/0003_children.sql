-- The saga whose child it is, and how often it was woken by children of its own.
ALTER TABLE {prefix}saga ADD COLUMN parent BLOB;
ALTER TABLE {prefix}saga ADD COLUMN woken INTEGER NOT NULL DEFAULT 0;
CREATE INDEX {prefix}saga_parent ON {prefix}saga (parent, id) WHERE parent IS NOT NULL;
