-- Those of the table's rows that hold series above $1. Last comes how far their IDs reach.
SELECT series_id, start, "end", n, version, encoding, data, last_id FROM _promkeep.recent_{{part}}
WHERE last_id > $1 ORDER BY series_id, version LIMIT $2
