-- The token with which somebody paused the queue; NULL without one.
ALTER TABLE queue ADD COLUMN paused_by TEXT NULL;
