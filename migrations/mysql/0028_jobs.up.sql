-- The jobs of requests: a row for each attempt. The first eight columns are those of the original.
--
-- `status`: 0 new, 1 inprogress, 2 completed, 3 failed, 4 retry, 5 canceled. `step` is the place of the step, from 0 on. `try` counts the
-- attempts of a job, `last_try` is the last that may be made. `task_id` is the task that performs it; `extras` what that has answered.
CREATE TABLE jobs (
    id BIGINT NOT NULL AUTO_INCREMENT,
    name VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    token VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    step INT UNSIGNED NOT NULL,
    error MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    status TINYINT UNSIGNED NOT NULL DEFAULT 0,
    created DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    completed DATETIME(6) NULL,
    try INT UNSIGNED NOT NULL DEFAULT 1,
    last_try INT UNSIGNED NULL,
    task_id BINARY(16) NULL,
    extras MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    due_at DATETIME(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY jobs_try (token, step, name, try),
    KEY jobs_task (task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
