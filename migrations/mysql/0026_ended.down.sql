DROP TABLE ended;
