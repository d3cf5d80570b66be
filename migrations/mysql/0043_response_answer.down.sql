ALTER TABLE response DROP COLUMN answer;
