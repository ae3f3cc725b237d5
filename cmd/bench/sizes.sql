-- What the schemas of promkeep take on disk, indexes and TOAST included: the packed rows, their indexes, and all the rest, which is the catalogue.
WITH relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relname ~ '^(chunk|recent|_hyper|compress_hyper)' AND n.nspname IN ('_promkeep', '_timescaledb_internal') AS packed
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('_promkeep', 'promkeep', '_timescaledb_internal', '_timescaledb_catalog') AND c.relkind IN ('r', 'm', 'S')
)
SELECT coalesce(sum(pg_table_size(oid)) FILTER (WHERE packed), 0)::int8,
       coalesce(sum(pg_indexes_size(oid)) FILTER (WHERE packed), 0)::int8,
       coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE NOT packed), 0)::int8,
       pg_database_size(current_database())::int8,
       (SELECT coalesce(sum(n), 0)::int8 FROM _promkeep.chunk),
       (SELECT count(*)::int8 FROM _promkeep.chunk)
FROM relation
