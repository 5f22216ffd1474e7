-- The shop and the services behind it. Times are microseconds since 1970, UTC.

CREATE TABLE products (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    price INTEGER NOT NULL CHECK (price >= 0),
    stock INTEGER NOT NULL CHECK (stock >= 0),
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE orders (
    id TEXT NOT NULL PRIMARY KEY,
    customer TEXT NOT NULL,
    payment_method TEXT NOT NULL,
    total INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders (id),
    position INTEGER NOT NULL,
    product_id TEXT NOT NULL REFERENCES products (id),
    quantity INTEGER NOT NULL,
    price INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT;

-- The payment service: one row a key, a charge or the mark that refuses it.
CREATE TABLE charges (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    refunded INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The shipment service: one row a key, a shipment or the mark that refuses it.
CREATE TABLE shipments (
    key TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    order_id TEXT NOT NULL
) STRICT;
