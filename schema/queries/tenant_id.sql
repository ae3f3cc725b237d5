SELECT id FROM _promkeep.tenant WHERE name = $1
