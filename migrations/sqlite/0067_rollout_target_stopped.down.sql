ALTER TABLE rollout_target DROP COLUMN stopped;
