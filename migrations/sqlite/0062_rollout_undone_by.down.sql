ALTER TABLE rollout DROP COLUMN rolls_back;
ALTER TABLE rollout DROP COLUMN undone_by;
