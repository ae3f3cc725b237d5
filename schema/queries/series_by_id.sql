SELECT id, started, labels FROM _promkeep.series WHERE id = ANY($1::int8[])
