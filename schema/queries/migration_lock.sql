SELECT pg_advisory_lock(1886352750) -- 'pkmn'
