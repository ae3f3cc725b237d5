-- The same as series_select_metric_pairs.sql, of many metrics.
SELECT s.id, s.started, s.ended, l.labels FROM _promkeep.label_set l
CROSS JOIN LATERAL (
    SELECT s.id, s.started, s.ended FROM unnest(l.metrics) AS m (id)
    JOIN _promkeep.series s ON s.id = m.id::int8 << 37 | l.id WHERE NOT s.late
    UNION ALL
    SELECT s.id, s.started, s.ended FROM _promkeep.series s WHERE (s.id & 137438953471) = l.id AND s.late
) AS s
WHERE s.id >> 37 = ANY($1::int8[]) AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
  AND width_bucket(s.id, $4::int8[]) = width_bucket(s.id - 1, $4::int8[])
  AND ($5::int4[] IS NULL OR l.labels @> $5) AND ($6::int4[] IS NULL OR l.labels && $6)
