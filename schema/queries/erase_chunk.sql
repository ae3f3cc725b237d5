-- Takes out the rows of the day [$4, $5) that touch [$6, $7] and hold some of the series $1, in order, which are of one metric; $2 and
-- $3 are the first and the last of them. Last comes how far a row's series IDs reach.
DELETE FROM _promkeep.chunk c
WHERE c.series_id >= $2::int8 >> 37 << 37 AND c.series_id <= $3 AND c.last_id >= $2 AND c.start >= $4 AND c.start < $5
  AND c.start <= $7 AND c."end" >= $6 AND width_bucket(c.last_id, $1::int8[]) > width_bucket(c.series_id - 1, $1::int8[])
RETURNING c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, c.last_id
