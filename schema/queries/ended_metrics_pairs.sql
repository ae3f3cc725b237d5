-- The same as ended_metrics.sql, through the index on label pairs: a series has one of $8, which are few.
SELECT name FROM _promkeep.metric WHERE id IN (
    SELECT s.id >> 37 FROM _promkeep.series s
    WHERE s.labels && $8::int4[]
      AND s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
      AND s.started <= $2 AND s.ended >= $3
      AND ($4 = 0 AND $6::int4[] = '{}' OR (
        SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
        FROM unnest(s.labels) AS p (id)))
) ORDER BY name LIMIT $7
