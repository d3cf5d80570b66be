ALTER TABLE enrolment DROP COLUMN earlier_types;
