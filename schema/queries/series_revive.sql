-- Series that are in memory again are active.
WITH changed AS (UPDATE _promkeep.catalogue SET version = version + 1 WHERE only_row RETURNING version),
revived AS (UPDATE _promkeep.series SET ended = NULL FROM changed WHERE id = ANY($1::int8[]) AND ended IS NOT NULL)
SELECT version FROM changed
