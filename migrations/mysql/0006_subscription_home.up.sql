-- `home` tells two processes of one name apart that know nothing of each other; `trouble` says why one takes no tasks.
ALTER TABLE subscription
    ADD COLUMN home BINARY(16) NULL,
    ADD COLUMN trouble VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;
