-- Fails to find a row when another leader has taken over; holds it off until this transaction ends.
SELECT flush_version FROM _promkeep.leader WHERE epoch = $1 FOR UPDATE
