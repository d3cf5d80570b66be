-- An answer that came after the end and tells something else than what decided: JSON, at most one.
ALTER TABLE response ADD COLUMN late MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;
