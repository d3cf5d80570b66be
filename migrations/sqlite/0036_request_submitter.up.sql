-- The name of the token a request was submitted with; null for one without, and for rows that producers insert.
ALTER TABLE requests ADD COLUMN submitted_by TEXT NULL;
