-- Whose reports are believed: those of the memory that has an endpoint's name and of the one before it, and of an endpoint that
-- was not expected only those about tasks that went out when it was known. NULL where an older version saw it first.
ALTER TABLE subscription ADD COLUMN previous_home BLOB NULL;
ALTER TABLE subscription ADD COLUMN first_seen INTEGER NULL;
