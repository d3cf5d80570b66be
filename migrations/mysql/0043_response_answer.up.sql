-- The digest of the final answer: equal for answers that are grouped. NULL until there is one, and in rows of before.
ALTER TABLE response ADD COLUMN answer BINARY(16) NULL;
