ALTER TABLE endpoint DROP COLUMN labels;
