-- All rows that touch [$5, $6] and hold some of the series $1, which are in order; $2 and $3 are the first and the last of each metric, or of several with nothing between them.
-- $4 is the beginning of the day of $5, since no row of chunk crosses a day. width_bucket counts in halves how many of $1 are not above a number.
-- Of the row's series those up to the last column do not count.
-- Behind read_lock.sql: what moves from recent to chunk is seen in exactly one of them.
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data, p.merged_upto
FROM unnest($2::int8[], $3::int8[]) AS m (first, last)
JOIN _promkeep.recent r ON r.series_id >= m.first >> 37 << 37 AND r.series_id <= m.last AND r.last_id >= m.first
JOIN _promkeep.part p ON r.part = p.id AND r.last_id > p.merged_upto
WHERE width_bucket(r.last_id, $1::int8[]) > width_bucket(r.series_id - 1, $1::int8[]) AND r.start <= $6 AND r."end" >= $5
UNION ALL
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, -1
FROM unnest($2::int8[], $3::int8[]) AS m (first, last)
CROSS JOIN LATERAL (
    SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data FROM _promkeep.chunk c
    WHERE c.series_id >= m.first >> 37 << 37 AND c.series_id <= m.last AND c.last_id >= m.first
      AND width_bucket(c.last_id, $1::int8[]) > width_bucket(c.series_id - 1, $1::int8[])
      AND c.start >= $4 AND c.start <= $6 AND c."end" >= $5
    OFFSET 0 -- or the columnstore unpacks all that lies between the first metric and the last, and is joined with them then
) AS c
