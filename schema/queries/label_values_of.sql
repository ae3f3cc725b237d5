SELECT id, value FROM _promkeep.label WHERE name = $1
