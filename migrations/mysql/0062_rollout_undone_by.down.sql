ALTER TABLE rollout DROP COLUMN rolls_back, DROP COLUMN undone_by;
