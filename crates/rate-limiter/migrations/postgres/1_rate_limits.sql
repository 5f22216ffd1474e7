CREATE TABLE {schema}{prefix}rate_limits (
    key BYTEA PRIMARY KEY,
    -- The first bandwidth's state, and that of the others as numbers with spaces between.
    unit BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    level BIGINT NOT NULL,
    before BIGINT NOT NULL,
    others TEXT,
    -- Microseconds since 1970: from then on the row says no more than an absent one.
    expires BIGINT NOT NULL
);
CREATE INDEX {prefix}rate_limits_expires ON {schema}{prefix}rate_limits (expires);
