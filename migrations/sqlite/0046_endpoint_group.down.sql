DROP TABLE endpoint_group;
