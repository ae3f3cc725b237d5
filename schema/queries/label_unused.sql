-- Label pairs that no label set has.
SELECT l.id FROM _promkeep.label l
LEFT JOIN (SELECT DISTINCT unnest(labels) AS id FROM _promkeep.label_set) AS used USING (id)
WHERE used.id IS NULL LIMIT $1
