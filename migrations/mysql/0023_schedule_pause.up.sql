-- Since when a schedule submits nothing.
ALTER TABLE schedule ADD COLUMN paused_at DATETIME(6) NULL;
