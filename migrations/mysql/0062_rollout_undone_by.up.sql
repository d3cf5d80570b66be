-- Whether what a rollout has changed is to be undone, and the rollout that undoes it.
ALTER TABLE rollout ADD COLUMN rolls_back TINYINT UNSIGNED NOT NULL DEFAULT 0, ADD COLUMN undone_by BINARY(16) NULL;
