ALTER TABLE rollout DROP COLUMN ranks_at, DROP COLUMN subject;
