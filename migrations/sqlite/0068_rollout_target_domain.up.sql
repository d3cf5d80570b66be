-- The failure domain of an endpoint, frozen with it, and how many endpoints of that may be in flight. NULL without `spread`, and for any number.
ALTER TABLE rollout_target ADD COLUMN domain TEXT NULL;
ALTER TABLE rollout_target ADD COLUMN domain_places INTEGER NULL;
