SELECT pg_advisory_unlock(1886352750)
