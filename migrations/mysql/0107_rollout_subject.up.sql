-- `subject` is what a rollout changes, NULL where its document does not say. `ranks_at` is when it counts as started among those of its lane,
-- where that is not `started_at`: a rollback counts as what it undoes.
ALTER TABLE rollout ADD COLUMN subject VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL, ADD COLUMN ranks_at DATETIME(6) NULL;
