-- The same as ended_label_values.sql, through the index on label pairs: a series has one of $9, which are few.
SELECT DISTINCT l.value FROM _promkeep.series s
CROSS JOIN LATERAL unnest(s.labels) AS p (id)
JOIN _promkeep.label l ON l.id = p.id AND l.name = $7
WHERE s.labels && $9::int4[]
  AND s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
  AND s.started <= $2 AND s.ended >= $3
  AND ($4 = 0 AND $6::int4[] = '{}' OR (
    SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
    FROM unnest(s.labels) AS p (id)))
ORDER BY l.value LIMIT $8
