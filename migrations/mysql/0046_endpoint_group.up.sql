-- Groups of endpoints: selectors under a name.
CREATE TABLE endpoint_group (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    selector TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    changed_by VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    changed_at DATETIME(6) NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
