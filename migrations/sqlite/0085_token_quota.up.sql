-- How much a token may use, as JSON; NULL for one without limits.
ALTER TABLE token ADD COLUMN quota TEXT NULL;
