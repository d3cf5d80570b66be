-- One row for each endpoint that must answer a task.
--
-- `owed_to` is the endpoint while the row is open and NULL afterwards. A key on (endpoint, status) would hold all history
-- in an order in which the rows of one task lie ten thousand pages apart, and move an entry at every change. This key
-- keeps the open rows together, small and warm; the ended ones lie behind NULL in the order of their tasks, side by side.
CREATE TABLE response (
    task_id BINARY(16) NOT NULL,
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    status TINYINT UNSIGNED NOT NULL,
    errnr INT NULL,
    errmsg MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    payload LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    attempt INT UNSIGNED NOT NULL DEFAULT 0,
    attempts MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    progress TINYINT UNSIGNED NULL,
    log MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    start_time DATETIME(6) NULL,
    last_modified_time DATETIME(6) NOT NULL,
    owed_to VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin
        GENERATED ALWAYS AS (CASE WHEN status < 2 THEN endpoint END) STORED,
    PRIMARY KEY (task_id, endpoint),
    KEY response_owed (owed_to, task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
