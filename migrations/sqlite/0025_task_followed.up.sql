-- Whether something waits for the end of the task, as on MySQL.
ALTER TABLE task ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;
