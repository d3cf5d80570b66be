-- The worker that a token is for; NULL for one that may be any that no token is for.
ALTER TABLE token ADD COLUMN worker VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL;
