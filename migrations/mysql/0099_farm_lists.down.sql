ALTER TABLE farm_task
    DROP KEY farm_task_latest,
    DROP KEY farm_task_oldest,
    DROP COLUMN name;
