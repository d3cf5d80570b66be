-- The address that a task was submitted from.
ALTER TABLE task ADD COLUMN source TEXT NULL;
