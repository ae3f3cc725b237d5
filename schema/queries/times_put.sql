-- Keeps rows of timestamps that bundles of the long-term store refer to: of day $1 (ms), with digest $2.
INSERT INTO _promkeep.times (day, digest, data)
SELECT t.day, t.digest, t.data FROM unnest($1::int8[], $2::bytea[], $3::bytea[]) AS t (day, digest, data) ORDER BY t.day, t.digest
ON CONFLICT DO NOTHING
