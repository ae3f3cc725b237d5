-- What the tables of the catalogue and their indexes take on disk, in bytes, largest first.
SELECT c.relname, sum(pg_relation_size(c.oid, fork))::int8 AS bytes
FROM pg_class AS c CROSS JOIN unnest('{main,fsm,vm}'::text[]) AS fork
WHERE c.relnamespace = '_promkeep'::regnamespace AND (c.relname ~ '^(tenant|metric|label|label_set|series|catalogue)$' AND c.relkind = 'r' OR c.relkind = 'i' AND EXISTS (
    SELECT FROM pg_index AS i WHERE i.indexrelid = c.oid AND i.indrelid::regclass::text ~ '^_promkeep\.(tenant|metric|label|label_set|series|catalogue)$'))
GROUP BY c.relname ORDER BY bytes DESC
