DROP TABLE farm_barred;
