-- A second process of an endpoint's name: which one, with which memory, since when, and until when it is heard of.
ALTER TABLE subscription
    ADD COLUMN standby BINARY(16) NULL,
    ADD COLUMN standby_home BINARY(16) NULL,
    ADD COLUMN standby_since DATETIME(6) NULL,
    ADD COLUMN standby_until DATETIME(6) NULL;
