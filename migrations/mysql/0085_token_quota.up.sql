-- How much a token may use, as JSON; NULL for one without limits.
ALTER TABLE token ADD COLUMN quota TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;
