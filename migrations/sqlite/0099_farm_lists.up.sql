-- The names of tasks, and keys for their lists, as on MySQL.
ALTER TABLE farm_task ADD COLUMN name TEXT NULL;
CREATE INDEX farm_task_oldest ON farm_task (status, id);
CREATE INDEX farm_task_latest ON farm_task (status, last_updated, id);
