ALTER TABLE subscription DROP COLUMN standby;
ALTER TABLE subscription DROP COLUMN standby_home;
ALTER TABLE subscription DROP COLUMN standby_since;
ALTER TABLE subscription DROP COLUMN standby_until;
