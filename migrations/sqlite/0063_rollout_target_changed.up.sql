-- Whether an endpoint has received a task of the rollout: then a rollback is for it too.
ALTER TABLE rollout_target ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
