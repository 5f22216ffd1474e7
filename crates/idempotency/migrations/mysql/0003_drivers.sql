-- Which completers may have a key whose request was kept: those of this name. Programs may share the
-- table, and none is given the requests of another.
--
-- As in the step before: who died after it and before it was recorded finds nothing to do.
SET @buttress_step = IF(
    (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = COALESCE(
            NULLIF(REPLACE(REPLACE('{schema}', '`', ''), '.', ''), ''), DATABASE())
        AND table_name = '{prefix}idempotency' AND column_name = 'driver') > 0,
    'DO 0',
    'ALTER TABLE {schema}{prefix}idempotency
        ADD COLUMN driver VARBINARY(64) NOT NULL DEFAULT '''',
        ADD INDEX {prefix}idempotency_driver (driver, due_at),
        DROP INDEX {prefix}idempotency_due');
PREPARE buttress_step FROM @buttress_step;
EXECUTE buttress_step;
DEALLOCATE PREPARE buttress_step;
