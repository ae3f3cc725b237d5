-- By a set of label pairs of which the series has at least one, and by time, in hours since 1970.
SELECT s.id, s.labels FROM _promkeep.series s
WHERE s.labels && $1::int4[] AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
