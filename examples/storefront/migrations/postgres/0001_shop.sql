-- The shop and the services behind it. Times are microseconds since 1970, UTC.
-- Ids sort by their bytes on every database.

CREATE TABLE products (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    price BIGINT NOT NULL CHECK (price >= 0),
    stock BIGINT NOT NULL CHECK (stock >= 0),
    version BIGINT NOT NULL
);

CREATE TABLE orders (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    customer TEXT NOT NULL,
    payment_method TEXT NOT NULL,
    total BIGINT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE order_items (
    order_id TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    position BIGINT NOT NULL,
    product_id TEXT COLLATE "C" NOT NULL REFERENCES products (id),
    quantity BIGINT NOT NULL,
    price BIGINT NOT NULL,
    PRIMARY KEY (order_id, position)
);

-- The payment service: one row a key, a charge or the mark that refuses it.
CREATE TABLE charges (
    seq BIGSERIAL PRIMARY KEY,
    key TEXT COLLATE "C" NOT NULL UNIQUE,
    state TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount BIGINT NOT NULL,
    refunded BIGINT NOT NULL DEFAULT 0
);

-- The shipment service: one row a key, a shipment or the mark that refuses it.
CREATE TABLE shipments (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    order_id TEXT NOT NULL
);
