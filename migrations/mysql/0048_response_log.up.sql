-- The end of what the handler of a response has logged while it runs: `length` bytes there were in all, and `next_line` lines in the attempt that
-- logged last.
CREATE TABLE response_log (
    task_id BINARY(16) NOT NULL,
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt INT UNSIGNED NOT NULL,
    next_line BIGINT NOT NULL,
    length BIGINT NOT NULL,
    tail MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    last_modified_time DATETIME(6) NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
