-- The task that this one repeats for some of its endpoints.
ALTER TABLE task ADD COLUMN rerun_of BLOB NULL;
