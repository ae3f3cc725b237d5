INSERT INTO _promkeep.import_version (version, mint, maxt) VALUES ($1, $2, $3)
