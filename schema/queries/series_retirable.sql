SELECT id FROM _promkeep.series WHERE ended < $1 LIMIT $2
