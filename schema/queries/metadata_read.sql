-- The metadata of tenant $1, of all families or of $2, the youngest first: of $3 families, and $4 of each; all if negative.
SELECT family, type, help, unit FROM (
    SELECT *, dense_rank() OVER (ORDER BY family) AS place,
           row_number() OVER (PARTITION BY family ORDER BY seen DESC, digest) AS number
    FROM _promkeep.metadata WHERE tenant_id = $1 AND ($2 = '' OR family = $2)
) AS ranked
WHERE ($3::int8 < 0 OR place <= $3) AND ($4::int8 < 0 OR number <= $4)
ORDER BY family, number
