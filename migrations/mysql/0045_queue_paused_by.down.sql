ALTER TABLE queue DROP COLUMN paused_by;
