-- The values of label $9 over series that have ended: by metric ($1, in order), by time in hours since 1970, and by having $4 label pairs
-- among $5 and none among $6; having all of $7 and one of $8, if not NULL, says no more, but narrows the search. The first $10 of them.
WITH v AS MATERIALIZED (SELECT id, value FROM _promkeep.label WHERE name = $9)
SELECT DISTINCT v.value FROM _promkeep.label_set l
CROSS JOIN LATERAL unnest(l.labels) AS p (id)
JOIN v ON v.id = p.id
WHERE ($7::int4[] IS NULL OR l.labels @> $7) AND ($8::int4[] IS NULL OR l.labels && $8)
  AND ($4 = 0 AND $6::int4[] = '{}' OR (
    SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
    FROM unnest(l.labels) AS p (id)))
  AND l.id IN (
    SELECT s.id & 137438953471 FROM _promkeep.series s
    WHERE s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
      AND s.started <= $2 AND s.ended >= $3)
ORDER BY v.value LIMIT $10
