INSERT INTO _promkeep.part (level, window_start) VALUES ($1, $2) RETURNING id
