-- Whether the next signal wakes it while nobody holds it.
ALTER TABLE {prefix}saga ADD COLUMN listens INTEGER NOT NULL DEFAULT 0;
CREATE TABLE {prefix}saga_signal (
    saga_id BLOB NOT NULL,
    -- Of one key there is one: sending twice is once.
    signal_key BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (saga_id, signal_key)
) WITHOUT ROWID;
