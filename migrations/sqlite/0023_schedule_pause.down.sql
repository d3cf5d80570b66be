ALTER TABLE schedule DROP COLUMN paused_at;
