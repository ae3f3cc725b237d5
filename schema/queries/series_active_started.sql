SELECT id, started FROM _promkeep.series WHERE ended IS NULL
