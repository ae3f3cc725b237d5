INSERT INTO _promkeep.import AS i (source, unit, cursor, finished, samples) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (source, unit) DO UPDATE SET cursor = excluded.cursor, finished = excluded.finished,
    samples = i.samples + excluded.samples, updated_at = now()
