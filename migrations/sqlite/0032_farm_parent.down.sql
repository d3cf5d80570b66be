DROP TABLE farm_parent;
