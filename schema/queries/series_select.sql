-- By metric and time, in hours since 1970, but those of $4, which are in order: width_bucket counts how many of them are not above a number.
SELECT s.id, s.started, s.ended, l.labels FROM unnest($1::int8[]) AS m (id)
CROSS JOIN LATERAL (
    SELECT s.id, s.started, s.ended FROM _promkeep.series s
    WHERE s.id >= m.id << 37 AND s.id < (m.id + 1) << 37 AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
      AND width_bucket(s.id, $4::int8[]) = width_bucket(s.id - 1, $4::int8[])
    OFFSET 0 -- or the planner may compare each series with each metric
) AS s
JOIN _promkeep.label_set l ON l.id = s.id & 137438953471
