DELETE FROM _promkeep.chunk WHERE series_id = 0 AND start = $1 AND n = 0
