-- What is known of each idempotency key. Times are microseconds since 1970, by the host's clock.
-- id: 32 bytes of its scope, then the caller's key. state: 0 running, 1 in doubt, 2 done.
CREATE TABLE {prefix}idempotency (
    id BLOB NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    token BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    state INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    outcome BLOB
);

CREATE INDEX {prefix}idempotency_expiry ON {prefix}idempotency (expires_at);
