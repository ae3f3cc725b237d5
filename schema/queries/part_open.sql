SELECT id FROM _promkeep.part WHERE level = $1 AND window_start = $2 AND NOT sealed ORDER BY id DESC LIMIT 1
