-- What read_rows.sql reads of chunk, for series of one metric, or of several with nothing between them, without the join, which takes less to plan and to run: $2 is the least
-- ID of the first metric, $3 and $4 are the first and the last of the series $1, and $5, $6 and $7 are $4, $5 and $6 there.
SELECT c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, -1::int8
FROM _promkeep.chunk c
WHERE c.series_id >= $2 AND c.series_id <= $4 AND c.last_id >= $3
  AND width_bucket(c.last_id, $1::int8[]) > width_bucket(c.series_id - 1, $1::int8[])
  AND c.start >= $5 AND c.start <= $7 AND c."end" >= $6
