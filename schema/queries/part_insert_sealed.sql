INSERT INTO _promkeep.part (level, window_start, sealed) VALUES ($1, $2, true) RETURNING id
