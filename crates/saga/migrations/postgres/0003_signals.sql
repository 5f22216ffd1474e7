-- How many signals were sent to it, and whether the next one wakes it while nobody holds it.
ALTER TABLE {schema}{prefix}saga ADD COLUMN signals bigint NOT NULL DEFAULT 0;
ALTER TABLE {schema}{prefix}saga ADD COLUMN listens boolean NOT NULL DEFAULT false;
CREATE TABLE {schema}{prefix}saga_signal (
    saga_id bytea NOT NULL,
    -- Of one key there is one: sending twice is once.
    signal_key bytea NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (saga_id, signal_key)
);
