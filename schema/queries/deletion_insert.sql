INSERT INTO _promkeep.deletion (mint, maxt, version, matchers) VALUES ($1, $2, $3, $4) RETURNING id
