-- The token with which somebody paused the queue; NULL without one.
ALTER TABLE queue ADD COLUMN paused_by VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL;
