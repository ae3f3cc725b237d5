UPDATE _promkeep.series s SET ended = e.hour
FROM unnest($1::int8[], $2::int4[]) AS e (id, hour) WHERE s.id = e.id AND s.ended IS NULL
