-- A series that is there already is active again from now on.
INSERT INTO _promkeep.series AS s (id, hash, started, labels)
SELECT (metric_id::int8 << 37) | nextval('_promkeep.series_seq'), hash, started, labels::int4[]
FROM (SELECT * FROM unnest($1::int4[], $2::uuid[], $3::int4[], $4::text[]) AS new (metric_id, hash, started, labels)
      ORDER BY hash) AS ordered
ON CONFLICT (hash) DO UPDATE SET ended = NULL, started = least(s.started, excluded.started)
RETURNING id, hash, started, labels
