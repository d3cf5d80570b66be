ALTER TABLE endpoint DROP COLUMN clock_offset_ms, DROP COLUMN clock_lower_ms, DROP COLUMN clock_readings;
