SELECT pg_try_advisory_lock(1886088292, 0) -- 'pkld': held by the session of the one adapter that flushes, merges and retires
