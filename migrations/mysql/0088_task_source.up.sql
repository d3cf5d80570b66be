-- The address that a task was submitted from.
ALTER TABLE task ADD COLUMN source VARCHAR(45) CHARACTER SET ascii COLLATE ascii_bin NULL;
