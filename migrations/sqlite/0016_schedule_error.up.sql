-- The last task that a schedule could not submit: why, and when that was.
ALTER TABLE schedule ADD COLUMN last_error TEXT NULL;
ALTER TABLE schedule ADD COLUMN last_error_at INTEGER NULL;
