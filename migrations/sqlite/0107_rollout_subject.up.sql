-- `subject` is what a rollout changes, NULL where its document does not say. `ranks_at` is when it counts as started among those of its lane,
-- where that is not `started_at`: a rollback counts as what it undoes.
ALTER TABLE rollout ADD COLUMN subject TEXT NULL;
ALTER TABLE rollout ADD COLUMN ranks_at INTEGER NULL;
