WITH changed AS (UPDATE _promkeep.catalogue SET version = version + 1 WHERE only_row RETURNING version)
UPDATE _promkeep.series s SET started = e.hour
FROM unnest($1::int8[], $2::int4[]) AS e (id, hour), changed WHERE s.id = e.id AND s.started > e.hour
