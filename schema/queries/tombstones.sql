SELECT t.series_id, d.mint, d.maxt, d.version FROM _promkeep.tombstone t JOIN _promkeep.deletion d ON d.id = t.deletion_id
