-- Workers of a render farm. `secret` is a salt with the slow hash of what the worker shows.
CREATE TABLE farm_worker (
    id VARBINARY(16) NOT NULL,
    secret VARBINARY(64) NOT NULL,
    nickname TEXT NOT NULL,
    platform VARCHAR(64) NOT NULL,
    address VARCHAR(255) NOT NULL,
    software TEXT NOT NULL,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    requested VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    lazy BOOLEAN NOT NULL,
    task_types TEXT NOT NULL,
    current_task VARBINARY(16) NULL,
    current_job VARBINARY(16) NULL,
    current_task_status VARCHAR(64) NOT NULL,
    current_task_updated DATETIME(6) NULL,
    last_activity DATETIME(6) NULL,
    sleep TEXT NOT NULL,
    PRIMARY KEY (id),
    KEY farm_worker_silent (status, last_activity)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
