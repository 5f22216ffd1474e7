-- The subscriber: what it has applied, in the order in which it was committed. The number is given
-- under the lock of the one row beside, which a transaction holds until its end: so nothing ever
-- appears below a number that was already shown.

CREATE TABLE applied_events (
    seq BIGINT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    time BIGINT NOT NULL
);

CREATE TABLE applied_events_end (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
);

INSERT INTO applied_events_end (one, seq) VALUES (1, 0);
