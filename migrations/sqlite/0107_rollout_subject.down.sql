ALTER TABLE rollout DROP COLUMN ranks_at;
ALTER TABLE rollout DROP COLUMN subject;
