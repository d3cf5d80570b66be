DROP TABLE queue;
DROP TABLE queued_task;
ALTER TABLE subscription DROP COLUMN slots;
ALTER TABLE task DROP COLUMN priority, DROP COLUMN run_at, DROP COLUMN attempts, DROP COLUMN parent, DROP COLUMN replaced_by;
