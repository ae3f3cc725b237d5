-- The same of recent; $5 and $6 are $6 and $7 of read_metric_chunk.sql. Behind read_generic.sql: no partition is left out by the times, and there are few, so that a
-- plan for all times is as good as one for these. A plan is made again when partitions came or went. Whether some did is looked at when the lock on part is taken,
-- which must not have been taken before in the transaction: after the snapshot, as planning must be (see read_lock.sql).
SELECT r.series_id, r.start, r."end", r.n, r.version, r.encoding, r.data, p.merged_upto
FROM _promkeep.recent r
JOIN _promkeep.part p ON r.part = p.id AND r.last_id > p.merged_upto
WHERE r.series_id >= $2 AND r.series_id <= $4 AND r.last_id >= $3
  AND width_bucket(r.last_id, $1::int8[]) > width_bucket(r.series_id - 1, $1::int8[]) AND r.start <= $6 AND r."end" >= $5
