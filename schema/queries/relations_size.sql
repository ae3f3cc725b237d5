-- Bytes on disk of all of promkeep's relations, with indexes and TOAST; days of TimescaleDB lie elsewhere.
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('_promkeep', 'promkeep', 'promkeep_metrics') AND c.relkind IN ('r', 'S', 'm')
