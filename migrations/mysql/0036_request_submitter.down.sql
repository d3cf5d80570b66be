ALTER TABLE requests DROP COLUMN submitted_by;
