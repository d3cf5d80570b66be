-- The rollout that a task is a batch of.
ALTER TABLE task ADD COLUMN rollout BLOB NULL;
