-- The same as ended_label_names.sql, where label pairs narrow the search.
SELECT DISTINCT v.name FROM (
    SELECT DISTINCT p.id FROM _promkeep.label_set l
    CROSS JOIN LATERAL unnest(l.labels) AS p (id)
    WHERE ($7::int4[] IS NULL OR l.labels @> $7) AND ($8::int4[] IS NULL OR l.labels && $8)
      AND ($4 = 0 AND $6::int4[] = '{}' OR (
        SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
        FROM unnest(l.labels) AS p (id)))
      AND (EXISTS (
        SELECT FROM unnest(l.metrics) AS m (id) JOIN _promkeep.series s ON s.id = m.id::int8 << 37 | l.id
        WHERE m.id = ANY($1::int8[]) AND s.started <= $2 AND s.ended >= $3
        OFFSET 0) -- so that it is looked up for each label set, which are few
      OR EXISTS (
        SELECT FROM _promkeep.series s
        WHERE (s.id & 137438953471) = l.id AND s.late AND s.id >> 37 = ANY($1::int8[]) AND s.started <= $2 AND s.ended >= $3
        OFFSET 0))
) AS pair JOIN _promkeep.label v USING (id)
ORDER BY v.name LIMIT $9
