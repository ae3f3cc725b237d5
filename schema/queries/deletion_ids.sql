-- The series of a deletion, in order; all of a metric where it has the whole metric.
SELECT s.id FROM _promkeep.tombstone t JOIN _promkeep.series s ON s.id = t.series_id WHERE t.deletion_id = $1
UNION
SELECT s.id FROM _promkeep.tombstone t JOIN _promkeep.series s ON s.id > t.series_id AND s.id < t.series_id + (1::int8 << 37)
WHERE t.deletion_id = $1 AND t.series_id & ((1::int8 << 37) - 1) = 0
ORDER BY 1
