DROP TABLE IF EXISTS response_log;
