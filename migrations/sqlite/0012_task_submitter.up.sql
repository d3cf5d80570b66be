-- The token that a task was submitted with; NULL without one, and for those that tasker submits.
ALTER TABLE task ADD COLUMN submitted_by TEXT NULL;
