-- `name` is a copy of that in `document`, so that lists need not read documents; null where an older process wrote the row. The keys
-- have the tasks of a state in the two orders of lists.
ALTER TABLE farm_task
    ADD COLUMN name TEXT NULL,
    ADD KEY farm_task_oldest (status, id),
    ADD KEY farm_task_latest (status, last_updated, id);
