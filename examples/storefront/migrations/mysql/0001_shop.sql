-- The shop and the services behind it. Times are microseconds since 1970, UTC. Ids sort by their
-- bytes on every database. Each statement commits by itself, so each may be run again.

CREATE TABLE IF NOT EXISTS products (
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    name TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    price BIGINT NOT NULL CHECK (price >= 0),
    stock BIGINT NOT NULL CHECK (stock >= 0),
    version BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS orders (
    id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    customer TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    payment_method VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    total BIGINT NOT NULL,
    status VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB;

-- No reference to the product: it would be locked, shared, in the order in which a client names his
-- items, and those who reserve stock lock theirs in another.
CREATE TABLE IF NOT EXISTS order_items (
    order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    position BIGINT NOT NULL,
    product_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    quantity BIGINT NOT NULL,
    price BIGINT NOT NULL,
    PRIMARY KEY (order_id, position),
    FOREIGN KEY (order_id) REFERENCES orders (id)
) ENGINE = InnoDB;

-- The payment service: one row a key, a charge or the mark that refuses it.
CREATE TABLE IF NOT EXISTS charges (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    `key` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    state VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    amount BIGINT NOT NULL,
    refunded BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;

-- The shipment service: one row a key, a shipment or the mark that refuses it.
CREATE TABLE IF NOT EXISTS shipments (
    `key` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    state VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE = InnoDB;

-- The subscriber: what it has applied, in the order in which it was committed. The number is given
-- under the lock of the one row beside, which a transaction holds until its end: so nothing ever
-- appears below a number that was already shown.
CREATE TABLE IF NOT EXISTS applied_events (
    seq BIGINT NOT NULL PRIMARY KEY,
    id VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
    type VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    subject VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    time BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS applied_events_end (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO applied_events_end (one, seq) VALUES (1, 0);

-- The demo catalogue, p1 to p40. What is there stays as it is, so a second run resets no stock.
INSERT IGNORE INTO products (id, name, price, stock, version)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40)
SELECT concat('p', n), concat('Product ', n), 250 + 75 * n, 1000, 1 FROM numbers;
