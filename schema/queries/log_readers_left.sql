SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'virtualxid' AND virtualxid = virtualtransaction AND granted AND virtualtransaction = ANY ($1))
