SELECT series_id, start, "end", n, version, encoding, data FROM _promkeep.recent_{{part}}
WHERE series_id > $1 ORDER BY series_id, version LIMIT $2
