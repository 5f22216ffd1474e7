-- A saga's row is changed with each of its steps. Room on its page lets that be done without a
-- touch of the indexes.
ALTER TABLE {schema}{prefix}saga SET (fillfactor = 60);
-- Who is due, and whose holder has died, are two questions.
CREATE INDEX {prefix}saga_free ON {schema}{prefix}saga (name, version, due_at) WHERE state < 2 AND token IS NULL;
CREATE INDEX {prefix}saga_held ON {schema}{prefix}saga (name, version, due_at) WHERE state < 2 AND token IS NOT NULL;
DROP INDEX {schema}{prefix}saga_due;
