-- What the schemas of promkeep take on disk, indexes and TOAST included: the packed rows with their timestamps, their indexes, the catalogue, which is all the
-- rest, and the log. The log's space is used again and again: it is what ten minutes take, however much is stored.
WITH relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relname ~ '^(chunk|recent|times|_hyper|compress_hyper)' AND n.nspname IN ('_promkeep', '_timescaledb_internal') AS packed, c.relname ~ '^log' AS log
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('_promkeep', 'promkeep', '_timescaledb_internal', '_timescaledb_catalog') AND c.relkind IN ('r', 'm', 'S')
)
SELECT coalesce(sum(pg_table_size(oid)) FILTER (WHERE packed), 0)::int8,
       coalesce(sum(pg_indexes_size(oid)) FILTER (WHERE packed), 0)::int8,
       coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE NOT packed AND NOT log), 0)::int8,
       coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE log), 0)::int8,
       pg_database_size(current_database())::int8,
       (SELECT coalesce(sum(n), 0)::int8 FROM _promkeep.chunk),
       (SELECT count(*)::int8 FROM _promkeep.chunk)
FROM relation
