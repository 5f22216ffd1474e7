-- The stream of topics that choose the ring: messages are inserted, and never updated or deleted. A
-- piece is emptied as a whole when all in it is settled. All pieces always exist, so that no append
-- waits for one to be made; a piece that is emptied late holds messages of two rounds.
CREATE TABLE {schema}{prefix}outbox_stream (
    id         BIGINT NOT NULL,
    topic      TEXT COLLATE "C" NOT NULL,
    lane       SMALLINT NOT NULL,
    key        BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    attributes BYTEA NOT NULL,
    payload    BYTEA NOT NULL
) PARTITION BY LIST (((id / 250000) % 4));
-- Nothing in them is ever cleared away row by row; and vacuum's lock would keep them from being
-- emptied.
CREATE TABLE {schema}{prefix}outbox_stream_0 PARTITION OF {schema}{prefix}outbox_stream
    FOR VALUES IN (0) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_stream_1 PARTITION OF {schema}{prefix}outbox_stream
    FOR VALUES IN (1) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_stream_2 PARTITION OF {schema}{prefix}outbox_stream
    FOR VALUES IN (2) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_stream_3 PARTITION OF {schema}{prefix}outbox_stream
    FOR VALUES IN (3) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE UNIQUE INDEX {prefix}outbox_stream_0_id ON {schema}{prefix}outbox_stream_0 (topic, lane, id);
CREATE UNIQUE INDEX {prefix}outbox_stream_1_id ON {schema}{prefix}outbox_stream_1 (topic, lane, id);
CREATE UNIQUE INDEX {prefix}outbox_stream_2_id ON {schema}{prefix}outbox_stream_2 (topic, lane, id);
CREATE UNIQUE INDEX {prefix}outbox_stream_3_id ON {schema}{prefix}outbox_stream_3 (topic, lane, id);
-- One sequence for both tables: an id is unique, and in order, over both.
DO $$ BEGIN
    EXECUTE format('ALTER TABLE {schema}{prefix}outbox_stream ALTER COLUMN id SET DEFAULT nextval(%L::regclass)',
        pg_get_serial_sequence('{schema}{prefix}outbox', 'id'));
END $$;

-- How far a lane's stream is settled: its greatest row. Rows and no update, for behind an old
-- snapshot a row that is updated again and again becomes slow to find.
CREATE TABLE {schema}{prefix}outbox_mark (
    topic    TEXT COLLATE "C" NOT NULL,
    lane     SMALLINT NOT NULL,
    position BIGINT NOT NULL
) PARTITION BY LIST (((position / 250000) % 4));
CREATE TABLE {schema}{prefix}outbox_mark_0 PARTITION OF {schema}{prefix}outbox_mark
    FOR VALUES IN (0) WITH (autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_mark_1 PARTITION OF {schema}{prefix}outbox_mark
    FOR VALUES IN (1) WITH (autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_mark_2 PARTITION OF {schema}{prefix}outbox_mark
    FOR VALUES IN (2) WITH (autovacuum_enabled = false);
CREATE TABLE {schema}{prefix}outbox_mark_3 PARTITION OF {schema}{prefix}outbox_mark
    FOR VALUES IN (3) WITH (autovacuum_enabled = false);
CREATE INDEX {prefix}outbox_mark_0_at ON {schema}{prefix}outbox_mark_0 (topic, lane, position);
CREATE INDEX {prefix}outbox_mark_1_at ON {schema}{prefix}outbox_mark_1 (topic, lane, position);
CREATE INDEX {prefix}outbox_mark_2_at ON {schema}{prefix}outbox_mark_2 (topic, lane, position);
CREATE INDEX {prefix}outbox_mark_3_at ON {schema}{prefix}outbox_mark_3 (topic, lane, position);

-- A lane that may have messages in the stream, and how far it was settled when marks were emptied.
ALTER TABLE {schema}{prefix}outbox_lane ADD COLUMN position BIGINT;

-- Topics all of whose lanes may have: their messages are appended to the stream.
CREATE TABLE {schema}{prefix}outbox_ring (
    topic TEXT COLLATE "C" NOT NULL PRIMARY KEY
);
