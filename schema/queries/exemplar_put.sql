INSERT INTO _promkeep.exemplar (series_id, time, digest, value, labels)
SELECT * FROM unnest($1::int8[], $2::int8[], $3::uuid[], $4::float8[], $5::bytea[]) AS new (series_id, time, digest, value, labels)
ORDER BY series_id, time, digest ON CONFLICT DO NOTHING
