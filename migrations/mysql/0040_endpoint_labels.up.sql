-- What an endpoint says of itself, a JSON object of texts: tasks are aimed by it; see src/targets.
ALTER TABLE endpoint ADD COLUMN labels TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;
