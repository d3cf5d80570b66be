ALTER TABLE subscription DROP COLUMN home;
ALTER TABLE subscription DROP COLUMN trouble;
