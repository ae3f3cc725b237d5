-- The same as read_rows.sql for series of one metric, without the join, which takes less to plan and to run: $2 is the least ID of the metric, $3 and $4 are the
-- first and the last of the series $1, and $5, $6 and $7 are $4, $5 and $6 there.
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data, p.merged_upto
FROM _promkeep.recent r
JOIN _promkeep.part p ON r.part = p.id AND r.last_id > p.merged_upto
WHERE r.series_id >= $2 AND r.series_id <= $4 AND r.last_id >= $3
  AND width_bucket(r.last_id, $1::int8[]) > width_bucket(r.series_id - 1, $1::int8[]) AND r.start <= $7 AND r."end" >= $6
UNION ALL
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, -1
FROM _promkeep.chunk c
WHERE c.series_id >= $2 AND c.series_id <= $4 AND c.last_id >= $3
  AND width_bucket(c.last_id, $1::int8[]) > width_bucket(c.series_id - 1, $1::int8[])
  AND c.start >= $5 AND c.start <= $7 AND c."end" >= $6
