SELECT coalesce(sum(n), 0)::int8 FROM _promkeep.chunk
