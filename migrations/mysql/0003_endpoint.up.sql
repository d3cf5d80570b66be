-- Endpoints ever seen.
CREATE TABLE endpoint (
    name VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    last_seen DATETIME(6) NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
