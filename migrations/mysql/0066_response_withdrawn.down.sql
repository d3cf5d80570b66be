ALTER TABLE response DROP COLUMN withdrawn_at;
