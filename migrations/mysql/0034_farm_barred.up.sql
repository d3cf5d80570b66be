-- Workers that get no more tasks of a type of a job.
CREATE TABLE farm_barred (
    worker_id VARBINARY(16) NOT NULL,
    job VARBINARY(16) NOT NULL,
    task_type VARCHAR(190) NOT NULL,
    since DATETIME(6) NOT NULL,
    PRIMARY KEY (worker_id, job, task_type),
    KEY farm_barred_job (job, task_type)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
