-- The metrics among $1 that have a series which has ended: as in ended_label_values.sql. The first $9 by name.
SELECT metric.name FROM unnest($1::int8[]) AS m (id)
CROSS JOIN LATERAL (
    SELECT FROM _promkeep.series s
    WHERE s.id >= m.id << 37 AND s.id < (m.id + 1) << 37 AND s.started <= $2 AND s.ended >= $3
      AND ($4 = 0 AND $6::int4[] = '{}' AND $7::int4[] IS NULL AND $8::int4[] IS NULL OR EXISTS (
        SELECT FROM _promkeep.label_set l
        WHERE l.id = s.id & 137438953471 AND (
          SELECT count(*) FILTER (WHERE p.id = ANY($5::int4[])) = $4 AND count(*) FILTER (WHERE p.id = ANY($6::int4[])) = 0
          FROM unnest(l.labels) AS p (id))))
    LIMIT 1
) AS found
JOIN _promkeep.metric USING (id)
ORDER BY metric.name LIMIT $9
