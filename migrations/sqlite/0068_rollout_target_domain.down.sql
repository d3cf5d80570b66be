ALTER TABLE rollout_target DROP COLUMN domain_places;
ALTER TABLE rollout_target DROP COLUMN domain;
