-- What is known of each idempotency key. Times are microseconds since 1970, by this server's clock.
CREATE TABLE {schema}{prefix}idempotency (
    -- 32 bytes of its scope, then the caller's key.
    id BYTEA NOT NULL PRIMARY KEY,
    -- Who has it: which claim of this key it is, and what no other claim has.
    epoch BIGINT NOT NULL,
    token BYTEA NOT NULL,
    -- A version byte and 32 bytes of digest.
    fingerprint BYTEA NOT NULL,
    -- 0 running, 1 in doubt, 2 done.
    state SMALLINT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- Set by the claim and seldom changed after it, so that a completion is a HOT update.
    expires_at BIGINT NOT NULL,
    outcome BYTEA
) WITH (fillfactor = 70);

CREATE INDEX {prefix}idempotency_expiry ON {schema}{prefix}idempotency (expires_at);
