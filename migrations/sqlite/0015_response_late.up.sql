-- An answer that came after the end and tells something else than what decided: JSON, at most one.
ALTER TABLE response ADD COLUMN late TEXT NULL;
