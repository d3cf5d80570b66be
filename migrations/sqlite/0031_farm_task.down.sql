DROP TABLE farm_task;
