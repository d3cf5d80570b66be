ALTER TABLE subscription DROP COLUMN previous_home;
ALTER TABLE subscription DROP COLUMN first_seen;
