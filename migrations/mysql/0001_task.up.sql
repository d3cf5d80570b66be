-- One row a submission.
--
-- `identifier` is bytes: no collation that MySQL and MariaDB share tells `a` from `a ` and one emoji from another.
-- `endpoints` is NULL when the customer gave no list, so that the question needs no look at a long text.
-- Every secondary key ends with the primary key, which gives lists by (task_type, id) and (status, task_type, id).
CREATE TABLE task (
    id BINARY(16) NOT NULL,
    task_type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    identifier VARBINARY(764) NOT NULL,
    status TINYINT UNSIGNED NOT NULL,
    payload LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    endpoints MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    digest BINARY(32) NOT NULL,
    expected INT UNSIGNED NOT NULL DEFAULT 0,
    received INT UNSIGNED NOT NULL DEFAULT 0,
    finished INT UNSIGNED NOT NULL DEFAULT 0,
    failed INT UNSIGNED NOT NULL DEFAULT 0,
    canceled INT UNSIGNED NOT NULL DEFAULT 0,
    expired INT UNSIGNED NOT NULL DEFAULT 0,
    asks INT UNSIGNED NOT NULL DEFAULT 0,
    start_time DATETIME(6) NOT NULL,
    frozen_at DATETIME(6) NULL,
    published_at DATETIME(6) NULL,
    finished_at DATETIME(6) NULL,
    receive_by DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    due_at DATETIME(6) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY task_identifier (task_type, identifier),
    KEY task_list (task_type, id),
    KEY task_state (status, task_type, id),
    KEY task_due (due_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
