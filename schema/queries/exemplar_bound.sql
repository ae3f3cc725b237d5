-- Leaves at most the youngest $2 exemplars of each of the series.
DELETE FROM _promkeep.exemplar e
USING unnest($1::int8[]) AS s (id), LATERAL (
    SELECT time FROM _promkeep.exemplar WHERE series_id = s.id ORDER BY time DESC OFFSET $2 LIMIT 1
) AS beyond
WHERE e.series_id = s.id AND e.time <= beyond.time
