-- The types that the newest user of an endpoint may not consume and an older one may, as a JSON array, until the older ones are deleted.
ALTER TABLE enrolment ADD COLUMN earlier_types TEXT NULL;
