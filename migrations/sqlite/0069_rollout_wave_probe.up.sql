-- How far the probe of a wave is: a JSON object. NULL until it begins.
ALTER TABLE rollout_wave ADD COLUMN probe TEXT NULL;
