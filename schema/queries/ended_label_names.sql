-- The names of labels, but __name__, of series that have ended: as in ended_label_values.sql.
SELECT DISTINCT v.name FROM (
    SELECT DISTINCT p.id FROM _promkeep.label_set l
    CROSS JOIN LATERAL unnest(l.labels) AS p (id)
    WHERE ($7::int4[] IS NULL OR l.labels @> $7) AND ($8::int4[] IS NULL OR l.labels && $8)
      AND ($4 = 0 AND $6::int4[] = '{}' OR (
        SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
        FROM unnest(l.labels) AS p (id)))
      AND l.id IN (
        SELECT s.id & 137438953471 FROM _promkeep.series s
        WHERE s.id >= ($1::int8[])[1] << 37 AND s.id < (($1::int8[])[cardinality($1)] + 1) << 37 AND s.id >> 37 = ANY($1)
          AND s.started <= $2 AND s.ended >= $3)
) AS pair JOIN _promkeep.label v USING (id)
ORDER BY v.name LIMIT $9
