-- The names of labels, but __name__, of series that have ended: as in ended_label_values.sql.
SELECT DISTINCT l.name FROM (
SELECT DISTINCT p.id FROM _promkeep.series s
CROSS JOIN LATERAL unnest(s.labels) AS p (id)
WHERE s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
  AND s.started <= $2 AND s.ended >= $3
  AND ($4 = 0 AND $6::int4[] = '{}' OR (
    SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
    FROM unnest(s.labels) AS p (id)))
) AS pair JOIN _promkeep.label l USING (id)
ORDER BY l.name LIMIT $7
