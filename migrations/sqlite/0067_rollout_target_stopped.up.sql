-- Whether the endpoint was told to stop its task although it may have begun.
ALTER TABLE rollout_target ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
