SELECT version, mint, maxt FROM _promkeep.import_version WHERE version > $1 ORDER BY version
