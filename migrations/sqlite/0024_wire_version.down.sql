ALTER TABLE subscription DROP COLUMN wire;
