CREATE TABLE IF NOT EXISTS {schema}{prefix}saga_signal (
    saga_id BINARY(16) NOT NULL,
    -- Of one key there is one: sending twice is once.
    signal_key VARBINARY(255) NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    payload LONGBLOB NOT NULL,
    PRIMARY KEY (saga_id, signal_key)
) ENGINE=InnoDB;
-- Whom the next signal wakes, while nobody holds it and its epoch is this one. A table of its own:
-- a column could not be added again, should this step be killed half-way.
CREATE TABLE IF NOT EXISTS {schema}{prefix}saga_listens (
    saga_id BINARY(16) NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (saga_id)
) ENGINE=InnoDB;
