SELECT pg_advisory_lock(1886088307, $1) -- 'pkls': held as long as the writer of the segment lives
