ALTER TABLE schedule DROP COLUMN last_error;
ALTER TABLE schedule DROP COLUMN last_error_at;
