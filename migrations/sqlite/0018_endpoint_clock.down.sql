ALTER TABLE endpoint DROP COLUMN clock_offset_ms;
ALTER TABLE endpoint DROP COLUMN clock_lower_ms;
ALTER TABLE endpoint DROP COLUMN clock_readings;
