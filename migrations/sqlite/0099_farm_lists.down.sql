DROP INDEX farm_task_latest;
DROP INDEX farm_task_oldest;
ALTER TABLE farm_task DROP COLUMN name;
