-- The end of the log of a task, and a key for the tasks of a job, as on MySQL.
ALTER TABLE farm_task ADD COLUMN log_tail TEXT NULL;
CREATE INDEX farm_task_job ON farm_task (job, status, job_type, job_turn);
