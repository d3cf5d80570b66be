-- `log_tail` is the end of what a task has logged, so that whoever looks at the farm need not have the log files. The key counts the
-- tasks of a job by their states, and tells what kind of job it is, without a look at the rows.
ALTER TABLE farm_task
    ADD COLUMN log_tail TEXT NULL,
    ADD KEY farm_task_job (job, status, job_type, job_turn);
