SELECT id, mint, maxt, version FROM _promkeep.deletion ORDER BY id
