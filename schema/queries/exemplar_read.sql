-- The youngest $4 exemplars of the series.
SELECT series_id, time, value, labels FROM _promkeep.exemplar
WHERE series_id = ANY($1::int8[]) AND time BETWEEN $2 AND $3 ORDER BY time DESC LIMIT $4
