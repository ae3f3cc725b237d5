-- Takes out the rows of a part that touch [$4, $5] and hold some of the series $1, as erase_chunk.sql does.
DELETE FROM _promkeep.recent_{{part}} c
WHERE c.series_id >= $2::int8 >> 37 << 37 AND c.series_id <= $3 AND c.last_id >= $2
  AND c.start <= $5 AND c."end" >= $4 AND width_bucket(c.last_id, $1::int8[]) > width_bucket(c.series_id - 1, $1::int8[])
RETURNING c.series_id, c.start, c."end", c.n, c.version, c.encoding, c.data, c.last_id
