DROP TABLE farm_worker;
