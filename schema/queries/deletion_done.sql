DELETE FROM _promkeep.deletion WHERE id = $1
