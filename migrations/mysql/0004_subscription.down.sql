DROP TABLE IF EXISTS subscription;
