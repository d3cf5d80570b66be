-- Whether something waits for the end of the task: then a row of `ended` is written with it.
ALTER TABLE task ADD COLUMN followed BOOLEAN NOT NULL DEFAULT FALSE;
