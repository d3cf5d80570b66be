ALTER TABLE subscription DROP COLUMN previous_home, DROP COLUMN first_seen;
