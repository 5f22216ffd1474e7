-- Phases that were passed, and requests that a completer finishes. All of it is NULL for a key that
-- has neither, or is done. progress: a line a phase: its name, a space, its output as JSON. request:
-- what was asked for. due_at: when a completer may have it; NULL when it is parked, too. drives: how
-- often one had it.
--
-- MySQL commits this statement by itself and knows no ADD COLUMN IF NOT EXISTS: who died after it
-- and before it was recorded must find that there is nothing to do.
SET @buttress_step = IF(
    (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = COALESCE(
            NULLIF(REPLACE(REPLACE('{schema}', '`', ''), '.', ''), ''), DATABASE())
        AND table_name = '{prefix}idempotency' AND column_name = 'progress') > 0,
    'DO 0',
    'ALTER TABLE {schema}{prefix}idempotency
        ADD COLUMN progress LONGBLOB,
        ADD COLUMN request LONGBLOB,
        ADD COLUMN due_at BIGINT,
        ADD COLUMN drives BIGINT NOT NULL DEFAULT 0,
        ADD INDEX {prefix}idempotency_due (due_at)');
PREPARE buttress_step FROM @buttress_step;
EXECUTE buttress_step;
DEALLOCATE PREPARE buttress_step;
