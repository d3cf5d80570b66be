ALTER TABLE rollout_wave DROP COLUMN probe;
