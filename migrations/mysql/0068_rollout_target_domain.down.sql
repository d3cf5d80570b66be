ALTER TABLE rollout_target DROP COLUMN domain_places, DROP COLUMN domain;
