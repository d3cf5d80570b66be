-- Workers that get no more tasks of a type of a job.
CREATE TABLE farm_barred (
    worker_id BLOB NOT NULL,
    job BLOB NOT NULL,
    task_type TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (worker_id, job, task_type)
) STRICT, WITHOUT ROWID;
CREATE INDEX farm_barred_job ON farm_barred (job, task_type);
