CREATE TABLE {prefix}rate_limits (
    key BLOB PRIMARY KEY,
    -- The first bandwidth's state, and that of the others as numbers with spaces between.
    unit INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    level INTEGER NOT NULL,
    before INTEGER NOT NULL,
    others TEXT,
    -- Microseconds since 1970: from then on the row says no more than an absent one.
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX {prefix}rate_limits_expires ON {prefix}rate_limits (expires);
