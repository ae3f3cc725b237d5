DELETE FROM _promkeep.erased_day WHERE day = ANY($1::int8[])
