-- What is known of each idempotency key. Times are microseconds since 1970, by this server's clock.
-- id: 32 bytes of its scope, then the caller's key. state: 0 running, 1 in doubt, 2 done.
CREATE TABLE IF NOT EXISTS {schema}{prefix}idempotency (
    id VARBINARY(287) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    token VARBINARY(16) NOT NULL,
    fingerprint VARBINARY(33) NOT NULL,
    state SMALLINT NOT NULL,
    lease_until BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    outcome LONGBLOB,
    INDEX {prefix}idempotency_expiry (expires_at)
) ENGINE = InnoDB;
