-- Keys are kept by buttress-idempotency from here on, in a table of its own.

DROP TABLE order_keys;
