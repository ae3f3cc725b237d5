INSERT INTO _promkeep.erased_day (day, rules) VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET rules = EXCLUDED.rules
