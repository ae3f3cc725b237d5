-- All rows that end at or after $1; $2 is the beginning of its day. Of the row's series those up to the last column do not count.
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data, p.merged_upto
FROM _promkeep.part p JOIN _promkeep.recent r ON r.part = p.id AND r.last_id > p.merged_upto
WHERE r."end" >= $1
UNION ALL
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, -1
FROM _promkeep.chunk c WHERE c.start >= $2 AND c."end" >= $1
