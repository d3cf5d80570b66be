-- The last task that a schedule could not submit: why, and when that was.
ALTER TABLE schedule
    ADD COLUMN last_error TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    ADD COLUMN last_error_at DATETIME(6) NULL;
