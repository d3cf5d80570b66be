-- Up to when the times of a schedule have been submitted.
CREATE TABLE schedule (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    done_until DATETIME(6) NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
