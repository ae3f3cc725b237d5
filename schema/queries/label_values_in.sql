SELECT id, value FROM _promkeep.label WHERE name = $1 AND value = ANY($2::text[])
