-- Rows of timestamps, by day (ms) and digest.
SELECT day, digest, t.data FROM unnest($1::int8[], $2::bytea[]) AS w (day, digest) JOIN _promkeep.times t USING (day, digest)
