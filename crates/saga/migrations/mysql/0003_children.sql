-- Whose child a saga is, and how often it has woken its parent. A table of its own: a column could
-- not be added again, should this step be killed half-way.
CREATE TABLE IF NOT EXISTS {schema}{prefix}saga_child (
    saga_id BINARY(16) NOT NULL,
    parent BINARY(16) NOT NULL,
    woken BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (saga_id),
    KEY {prefix}saga_parent (parent, saga_id)
) ENGINE=InnoDB;
