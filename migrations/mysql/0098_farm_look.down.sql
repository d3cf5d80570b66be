ALTER TABLE farm_task
    DROP KEY farm_task_job,
    DROP COLUMN log_tail;
