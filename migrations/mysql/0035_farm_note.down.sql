DROP TABLE farm_note;
