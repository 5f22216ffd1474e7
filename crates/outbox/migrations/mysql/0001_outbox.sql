CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox (
    id         BIGINT NOT NULL AUTO_INCREMENT,
    topic      VARBINARY(100) NOT NULL,
    lane       SMALLINT NOT NULL,
    `key`      VARBINARY(255) NOT NULL,
    created_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    attributes LONGBLOB NOT NULL,
    payload    LONGBLOB NOT NULL,
    PRIMARY KEY (topic, lane, id),
    UNIQUE KEY (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_lane (
    topic       VARBINARY(100) NOT NULL,
    lane        SMALLINT NOT NULL,
    epoch       BIGINT NOT NULL DEFAULT 0,
    token       VARBINARY(16),
    lease_until BIGINT NOT NULL DEFAULT 0,
    alone       BIGINT,
    PRIMARY KEY (topic, lane)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_aside (
    topic    VARBINARY(100) NOT NULL,
    lane     SMALLINT NOT NULL,
    `key`    VARBINARY(255) NOT NULL,
    head     BIGINT NOT NULL,
    failures INT NOT NULL,
    lapses   INT NOT NULL,
    waits    INT NOT NULL,
    until    BIGINT NOT NULL,
    error    BLOB NOT NULL,
    PRIMARY KEY (topic, lane, `key`)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_dead (
    topic      VARBINARY(100) NOT NULL,
    id         BIGINT NOT NULL,
    lane       SMALLINT NOT NULL,
    `key`      VARBINARY(255) NOT NULL,
    created_at BIGINT NOT NULL,
    attributes LONGBLOB NOT NULL,
    payload    LONGBLOB NOT NULL,
    failures   INT NOT NULL,
    lapses     INT NOT NULL,
    died_at    BIGINT NOT NULL,
    error      BLOB NOT NULL,
    PRIMARY KEY (topic, id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_kept (
    topic        VARBINARY(100) NOT NULL,
    id           BIGINT NOT NULL,
    `key`        VARBINARY(255) NOT NULL,
    created_at   BIGINT NOT NULL,
    delivered_at BIGINT NOT NULL,
    attributes   LONGBLOB NOT NULL,
    payload      LONGBLOB NOT NULL,
    KEY {prefix}outbox_kept_age (topic, delivered_at)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_topic (
    topic     VARBINARY(100) NOT NULL PRIMARY KEY,
    paused_at BIGINT,
    reason    VARBINARY(1024) NOT NULL DEFAULT ''
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}outbox_relay (
    topic VARBINARY(100) NOT NULL,
    relay VARBINARY(16) NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (topic, relay)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {schema}{prefix}inbox (
    consumer VARBINARY(255) NOT NULL,
    message  VARBINARY(255) NOT NULL,
    taken_at BIGINT NOT NULL,
    PRIMARY KEY (consumer, message),
    KEY {prefix}inbox_age (taken_at)
) ENGINE = InnoDB;
