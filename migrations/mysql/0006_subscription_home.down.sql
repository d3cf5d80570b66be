ALTER TABLE subscription DROP COLUMN home, DROP COLUMN trouble;
