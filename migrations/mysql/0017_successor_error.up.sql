-- Why nothing was queued after a task that has succeeded; NULL when nothing went wrong.
ALTER TABLE task ADD COLUMN successor_error TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;
