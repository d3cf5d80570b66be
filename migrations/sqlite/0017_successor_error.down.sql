ALTER TABLE task DROP COLUMN successor_error;
