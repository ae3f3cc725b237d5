-- All rows that end at or after $1; $2 is the beginning of its day.
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data
FROM _promkeep.part p JOIN _promkeep.recent r ON r.part = p.id AND r.series_id > p.merged_upto
WHERE r.start >= $2 AND r."end" >= $1
UNION ALL
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data
FROM _promkeep.chunk c WHERE c.start >= $2 AND c."end" >= $1
