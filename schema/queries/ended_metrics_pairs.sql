-- The same as ended_metrics.sql, where label pairs narrow the search.
SELECT name FROM _promkeep.metric WHERE id IN (
    SELECT s.id >> 37 FROM _promkeep.label_set l
    CROSS JOIN LATERAL (
        SELECT s.id, s.started, s.ended FROM unnest(l.metrics) AS m (id)
        JOIN _promkeep.series s ON s.id = m.id::int8 << 37 | l.id WHERE NOT s.late
        UNION ALL
        SELECT s.id, s.started, s.ended FROM _promkeep.series s WHERE (s.id & 137438953471) = l.id AND s.late
    ) AS s
    WHERE ($7::int4[] IS NULL OR l.labels @> $7) AND ($8::int4[] IS NULL OR l.labels && $8)
      AND ($4 = 0 AND $6::int4[] = '{}' OR (
        SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
        FROM unnest(l.labels) AS p (id)))
      AND s.id >> 37 = ANY($1::int8[]) AND s.started <= $2 AND s.ended >= $3
) ORDER BY name LIMIT $9
