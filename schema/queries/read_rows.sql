-- All rows of the series that touch [$3, $4]; $2 is the beginning of the day of $3, since no row crosses a day.
-- Behind read_begin.sql: what moves from recent to chunk is seen in exactly one of them.
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data
FROM _promkeep.part p JOIN _promkeep.recent r ON r.part = p.id AND r.series_id > p.merged_upto
WHERE r.series_id = ANY($1::int8[]) AND r.start >= $2 AND r.start <= $4 AND r."end" >= $3
UNION ALL
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data
FROM _promkeep.chunk c
WHERE c.series_id = ANY($1::int8[]) AND c.start >= $2 AND c.start <= $4 AND c."end" >= $3
