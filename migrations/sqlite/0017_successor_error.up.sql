-- Why nothing was queued after a task that has succeeded; NULL when nothing went wrong.
ALTER TABLE task ADD COLUMN successor_error TEXT NULL;
