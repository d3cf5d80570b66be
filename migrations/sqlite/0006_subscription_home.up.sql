-- `home` tells two processes of one name apart that know nothing of each other; `trouble` says why one takes no tasks.
ALTER TABLE subscription ADD COLUMN home BLOB NULL;
ALTER TABLE subscription ADD COLUMN trouble TEXT NULL;
