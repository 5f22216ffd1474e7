//! The statements for MySQL and MariaDB, with the parameters of the others in the same order.

pub(super) const PRODUCTS: &str = "SELECT * FROM products WHERE id > ? ORDER BY id LIMIT ?";
pub(super) const PRODUCT: &str = "SELECT * FROM products WHERE id = ?";
/// The version first, for what is assigned further on is seen with its old value only until then.
/// Names are compared as bytes: for text, a space at the end is none.
pub(super) const CHANGE_PRODUCT: &str = "UPDATE products
    SET version = version + CASE
            WHEN CAST(coalesce(?, name) AS BINARY) <> CAST(name AS BINARY)
                OR coalesce(?, price) <> price THEN 1 ELSE 0
        END,
        name = coalesce(?, name), price = coalesce(?, price), stock = coalesce(?, stock)
    WHERE id = ? AND version = ?";

pub(super) const ORDER: &str = "SELECT * FROM orders WHERE id = ?";
pub(super) const ORDERS: &str =
    "SELECT * FROM orders WHERE id < coalesce(?, '~') ORDER BY id DESC LIMIT ?";
pub(super) const ADD_ORDER: &str =
    "INSERT INTO orders (id, customer, payment_method, total, status, created_at)
    VALUES (?, ?, ?, ?, 'pending', ?)";
pub(super) const ADD_ITEM: &str =
    "INSERT INTO order_items (order_id, position, product_id, quantity, price)
    VALUES (?, ?, ?, ?, ?)";
pub(super) const ITEMS_BETWEEN: &str = "SELECT * FROM order_items
    WHERE order_id BETWEEN ? AND ? ORDER BY order_id DESC, position";

pub(super) const WANTED: &str =
    "SELECT product_id, CAST(sum(quantity) AS SIGNED) AS quantity FROM order_items
    WHERE order_id = ? GROUP BY product_id ORDER BY product_id";
pub(super) const RESERVE: &str =
    "UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ?";
pub(super) const PUT_BACK: &str = "UPDATE products SET stock = stock + ? WHERE id = ?";
pub(super) const END_ORDER: &str = "UPDATE orders SET status = ?, reason = ? WHERE id = ?";

pub(super) const CHARGE: &str =
    "INSERT INTO charges (`key`, state, order_id, amount) VALUES (?, 'done', ?, ?)
    ON DUPLICATE KEY UPDATE state = state";
pub(super) const CHARGE_STATE: &str = "SELECT state FROM charges WHERE `key` = ?";
pub(super) const CANCEL_CHARGE: &str =
    "INSERT INTO charges (`key`, state, order_id, amount) VALUES (?, 'cancelled', '', 0)
    ON DUPLICATE KEY UPDATE state = 'cancelled', refunded = amount";
pub(super) const CHARGES: &str = "SELECT seq, order_id, amount, refunded FROM charges
    WHERE seq > ? AND order_id <> '' ORDER BY seq LIMIT ?";

pub(super) const SHIP: &str = "INSERT INTO shipments (`key`, state, order_id) VALUES (?, 'done', ?)
    ON DUPLICATE KEY UPDATE state = state";
pub(super) const SHIPMENT_STATE: &str = "SELECT state FROM shipments WHERE `key` = ?";
pub(super) const CANCEL_SHIPMENT: &str =
    "INSERT INTO shipments (`key`, state, order_id) VALUES (?, 'cancelled', '')
    ON DUPLICATE KEY UPDATE state = 'cancelled'";

pub(super) const COUNT_EVENT: &str = "UPDATE applied_events_end SET seq = seq + 1";
pub(super) const LAST_EVENT: &str = "SELECT seq FROM applied_events_end";
pub(super) const ADD_EVENT: &str =
    "INSERT INTO applied_events (seq, id, type, subject, time) VALUES (?, ?, ?, ?, ?)";
pub(super) const EVENTS: &str = "SELECT seq, id, type, subject, time FROM applied_events
    WHERE seq > ? ORDER BY seq LIMIT ?";
