-- The demo catalogue, p1 to p40. A migration runs once, so a restart never resets the stock.

WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40)
INSERT INTO products (id, name, price, stock, version)
SELECT 'p' || n, 'Product ' || n, 250 + 75 * n, 1000, 1 FROM numbers;
