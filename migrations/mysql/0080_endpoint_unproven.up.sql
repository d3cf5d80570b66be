-- When presence of the endpoint last came from another broker user than its own. NULL while it never has.
ALTER TABLE endpoint ADD COLUMN unproven_at DATETIME(6) NULL;
