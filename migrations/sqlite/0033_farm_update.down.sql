DROP TABLE farm_update;
