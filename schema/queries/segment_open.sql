INSERT INTO _promkeep.log_segment (stream, number) VALUES ($1, $2) RETURNING id
