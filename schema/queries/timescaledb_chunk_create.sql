-- A chunk comes with its first row, and stays without.
INSERT INTO _promkeep.chunk (series_id, last_id, start, "end", n, version, encoding, data) VALUES (0, 0, $1, $1, 0, 0, 0, '')
