-- By metric, by a set of label pairs of which the series has at least one, and by time, in hours since 1970.
SELECT s.id, s.labels FROM unnest($1::int8[]) AS m (id)
JOIN _promkeep.series s ON s.id >= m.id << 37 AND s.id < (m.id + 1) << 37
WHERE s.labels && $4::int4[] AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
