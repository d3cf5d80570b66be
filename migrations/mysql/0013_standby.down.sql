ALTER TABLE subscription DROP COLUMN standby, DROP COLUMN standby_home, DROP COLUMN standby_since, DROP COLUMN standby_until;
