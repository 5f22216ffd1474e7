//! The statements as SQLite and PostgreSQL share them. Each uses its parameters once, in their order,
//! so that what is bound is the same for every dialect.

pub(super) const PRODUCTS: &str = "SELECT * FROM products WHERE id > $1 ORDER BY id LIMIT $2";
pub(super) const PRODUCT: &str = "SELECT * FROM products WHERE id = $1";
pub(super) const CHANGE_PRODUCT: &str = "UPDATE products
    SET version = version + CASE
            WHEN coalesce($1, name) <> name OR coalesce($2, price) <> price THEN 1 ELSE 0
        END,
        name = coalesce($3, name), price = coalesce($4, price), stock = coalesce($5, stock)
    WHERE id = $6 AND version = $7";

pub(super) const ORDER: &str = "SELECT * FROM orders WHERE id = $1";
/// Ids are of hexadecimal digits, so all of them come before `~`.
pub(super) const ORDERS: &str =
    "SELECT * FROM orders WHERE id < coalesce($1, '~') ORDER BY id DESC LIMIT $2";
pub(super) const ADD_ORDER: &str =
    "INSERT INTO orders (id, customer, payment_method, total, status, created_at)
    VALUES ($1, $2, $3, $4, 'pending', $5)";
pub(super) const ADD_ITEM: &str =
    "INSERT INTO order_items (order_id, position, product_id, quantity, price)
    VALUES ($1, $2, $3, $4, $5)";
pub(super) const ITEMS_BETWEEN: &str = "SELECT * FROM order_items
    WHERE order_id BETWEEN $1 AND $2 ORDER BY order_id DESC, position";

pub(super) const WANTED: &str =
    "SELECT product_id, CAST(sum(quantity) AS BIGINT) AS quantity FROM order_items
    WHERE order_id = $1 GROUP BY product_id ORDER BY product_id";
pub(super) const RESERVE: &str =
    "UPDATE products SET stock = stock - $1 WHERE id = $2 AND stock >= $3";
pub(super) const PUT_BACK: &str = "UPDATE products SET stock = stock + $1 WHERE id = $2";
pub(super) const END_ORDER: &str = "UPDATE orders SET status = $1, reason = $2 WHERE id = $3";

pub(super) const CHARGE: &str =
    "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'done', $2, $3)
    ON CONFLICT (key) DO NOTHING";
pub(super) const CHARGE_STATE: &str = "SELECT state FROM charges WHERE key = $1";
pub(super) const CANCEL_CHARGE: &str =
    "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'cancelled', '', 0)
    ON CONFLICT (key) DO UPDATE SET state = 'cancelled', refunded = charges.amount";
/// A mark that refuses a charge has no order: nothing was charged.
pub(super) const CHARGES: &str = "SELECT seq, order_id, amount, refunded FROM charges
    WHERE seq > $1 AND order_id <> '' ORDER BY seq LIMIT $2";

pub(super) const SHIP: &str = "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'done', $2)
    ON CONFLICT (key) DO NOTHING";
pub(super) const SHIPMENT_STATE: &str = "SELECT state FROM shipments WHERE key = $1";
pub(super) const CANCEL_SHIPMENT: &str =
    "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'cancelled', '')
    ON CONFLICT (key) DO UPDATE SET state = 'cancelled'";

pub(super) const COUNT_EVENT: &str = "UPDATE applied_events_end SET seq = seq + 1";
pub(super) const LAST_EVENT: &str = "SELECT seq FROM applied_events_end";
pub(super) const ADD_EVENT: &str =
    "INSERT INTO applied_events (seq, id, type, subject, time) VALUES ($1, $2, $3, $4, $5)";
pub(super) const EVENTS: &str = "SELECT seq, id, type, subject, time FROM applied_events
    WHERE seq > $1 ORDER BY seq LIMIT $2";
