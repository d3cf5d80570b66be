-- What became of tasks, by minute and by hour: kept longer than the tasks.
CREATE TABLE throughput (
    step TINYINT UNSIGNED NOT NULL,
    begins_at DATETIME(6) NOT NULL,
    task_type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    accepted BIGINT NOT NULL,
    done BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    canceled BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    answers BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    PRIMARY KEY (step, begins_at, task_type)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
