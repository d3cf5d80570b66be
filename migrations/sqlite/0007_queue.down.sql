DROP TABLE queue;
DROP TABLE queued_task;
ALTER TABLE subscription DROP COLUMN slots;
ALTER TABLE task DROP COLUMN priority;
ALTER TABLE task DROP COLUMN run_at;
ALTER TABLE task DROP COLUMN attempts;
ALTER TABLE task DROP COLUMN parent;
ALTER TABLE task DROP COLUMN replaced_by;
