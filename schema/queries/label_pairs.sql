SELECT id, name, value FROM _promkeep.label WHERE id = ANY($1::int4[])
