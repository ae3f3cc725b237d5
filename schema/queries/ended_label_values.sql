-- The values of label $7 over series that have ended: by metric ($1, in order), by time in hours since 1970, and by having $4 label pairs
-- among $5 and none among $6. The first $8 of them.
SELECT DISTINCT l.value FROM _promkeep.series s
CROSS JOIN LATERAL unnest(s.labels) AS p (id)
JOIN _promkeep.label l ON l.id = p.id AND l.name = $7
WHERE s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
  AND s.started <= $2 AND s.ended >= $3
  AND ($4 = 0 AND $6::int4[] = '{}' OR (
    SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
    FROM unnest(s.labels) AS p (id)))
ORDER BY l.value LIMIT $8
