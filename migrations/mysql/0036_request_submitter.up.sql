-- The name of the token a request was submitted with; null for one without, and for rows that producers insert.
ALTER TABLE requests ADD COLUMN submitted_by VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL;
