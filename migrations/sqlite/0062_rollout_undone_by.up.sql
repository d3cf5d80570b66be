-- Whether what a rollout has changed is to be undone, and the rollout that undoes it.
ALTER TABLE rollout ADD COLUMN rolls_back INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN undone_by BLOB NULL;
