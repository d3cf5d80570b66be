ALTER TABLE schedule DROP COLUMN last_error, DROP COLUMN last_error_at;
