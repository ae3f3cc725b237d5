SELECT value FROM _promkeep.setting WHERE name = $1
