DELETE FROM _promkeep.part WHERE id = $1
