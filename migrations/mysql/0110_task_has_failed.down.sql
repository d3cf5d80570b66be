ALTER TABLE task DROP COLUMN has_failed;
