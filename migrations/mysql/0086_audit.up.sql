-- What was done, by whom and from where: a chain of entries that are never changed. Where the server lets it, triggers see to that.
CREATE TABLE audit (
    seq BIGINT NOT NULL,
    at DATETIME(6) NOT NULL,
    actor VARCHAR(128) NOT NULL,
    action VARCHAR(64) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    detail MEDIUMTEXT NULL,
    source VARCHAR(128) NOT NULL,
    request_id VARCHAR(128) NULL,
    previous BINARY(32) NOT NULL,
    hash BINARY(32) NOT NULL,
    PRIMARY KEY (seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
