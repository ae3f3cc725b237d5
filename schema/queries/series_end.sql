-- hour is when the series ended at the earliest: one that was marked before may have ended later, and an import may have brought
-- younger samples.
WITH changed AS (UPDATE _promkeep.catalogue SET version = version + 1 WHERE only_row RETURNING version),
ended AS (
    UPDATE _promkeep.series s SET ended = greatest(s.ended, e.hour, (SELECT imported_hour FROM _promkeep.leader))
    FROM unnest($1::int8[], $2::int4[]) AS e (id, hour), changed WHERE s.id = e.id
)
SELECT version FROM changed
