-- The token that the token of a session was made with; it ends with that one. NULL for a token that is no session.
ALTER TABLE token ADD COLUMN parent BLOB NULL;
