-- A second process of an endpoint's name: which one, with which memory, since when, and until when it is heard of.
ALTER TABLE subscription ADD COLUMN standby BLOB NULL;
ALTER TABLE subscription ADD COLUMN standby_home BLOB NULL;
ALTER TABLE subscription ADD COLUMN standby_since INTEGER NULL;
ALTER TABLE subscription ADD COLUMN standby_until INTEGER NULL;
