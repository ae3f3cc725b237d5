-- Drops what was not announced since day $1, and of each family all but the youngest $2.
DELETE FROM _promkeep.metadata WHERE (tenant_id, family, digest) IN (
    SELECT tenant_id, family, digest FROM (
        SELECT tenant_id, family, digest, seen,
               row_number() OVER (PARTITION BY tenant_id, family ORDER BY seen DESC, digest) AS number
        FROM _promkeep.metadata
    ) AS ranked WHERE seen < $1 OR number > $2)
