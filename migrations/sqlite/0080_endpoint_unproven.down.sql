ALTER TABLE endpoint DROP COLUMN unproven_at;
