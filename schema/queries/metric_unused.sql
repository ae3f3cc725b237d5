-- Metrics that no series has.
SELECT m.id FROM _promkeep.metric m
CROSS JOIN LATERAL (SELECT min(s.id) AS id FROM _promkeep.series s WHERE s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37) AS used
WHERE used.id IS NULL LIMIT $1
