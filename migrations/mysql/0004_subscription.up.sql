-- Which endpoint takes tasks of which type. Presence touches rows by endpoint and changes no key unless somebody comes or
-- goes; the publisher reads by type and state from the key alone.
CREATE TABLE subscription (
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    task_type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state TINYINT UNSIGNED NOT NULL,
    instance BINARY(16) NOT NULL,
    session BINARY(16) NOT NULL,
    seen_until DATETIME(6) NOT NULL,
    last_seen DATETIME(6) NOT NULL,
    PRIMARY KEY (endpoint, task_type),
    KEY subscription_type (task_type, state, endpoint)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
