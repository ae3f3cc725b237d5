-- A series that has a row which begins in [$1, $2] (ms), any of them: a connection is made ready by reading it.
SELECT series_id FROM _promkeep.chunk WHERE start >= $1 AND start <= $2 LIMIT 1
