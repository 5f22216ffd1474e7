-- What commands write: normalized, the truth.
CREATE TABLE orders (
    id       TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    state    TEXT NOT NULL,
    version  BIGINT NOT NULL
);
CREATE TABLE order_lines (
    order_id TEXT NOT NULL REFERENCES orders (id),
    line     BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    price    BIGINT NOT NULL,
    PRIMARY KEY (order_id, line)
);

-- What queries read: denormalized, kept by events, and of which there may be a second generation
-- that is being built.
CREATE TABLE view_control (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    shown    BIGINT NOT NULL,
    building BIGINT,
    last     BIGINT NOT NULL
);
INSERT INTO view_control (one, shown, building, last) VALUES (1, 1, NULL, 1);
CREATE TABLE view_orders (
    generation BIGINT NOT NULL,
    id         TEXT NOT NULL,
    customer   TEXT NOT NULL,
    state      TEXT NOT NULL,
    total      BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (generation, id)
);
CREATE TABLE view_customers (
    generation BIGINT NOT NULL,
    customer   TEXT NOT NULL,
    open       BIGINT NOT NULL,
    shipped    BIGINT NOT NULL,
    cancelled  BIGINT NOT NULL,
    spent      BIGINT NOT NULL,
    PRIMARY KEY (generation, customer)
);
