SELECT id, started, labels FROM _promkeep.series WHERE ended IS NULL
