-- How far an endpoint's clock is ahead of the database's, and the lower readings in a row that may change it; see src/store/clock_offset.rs.
ALTER TABLE endpoint
    ADD COLUMN clock_offset_ms BIGINT NULL,
    ADD COLUMN clock_lower_ms BIGINT NULL,
    ADD COLUMN clock_readings TINYINT UNSIGNED NOT NULL DEFAULT 0;
