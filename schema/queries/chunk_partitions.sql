SELECT c.relname, coalesce(substring(c.relname FROM 'chunk_(.*)$')::int8, 0), i.inhdetachpending
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '_promkeep.chunk'::regclass ORDER BY 2
