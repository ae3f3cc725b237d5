-- Fails to find a row when another leader has taken over; holds it off, and imports, until this transaction ends. The
-- highest version of all rows that are committed.
SELECT greatest(flush_version, import_version) FROM _promkeep.leader WHERE epoch = $1 FOR UPDATE
