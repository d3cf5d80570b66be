DROP INDEX farm_task_job;
ALTER TABLE farm_task DROP COLUMN log_tail;
