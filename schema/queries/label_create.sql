INSERT INTO _promkeep.label (name, value)
SELECT name, value FROM unnest($1::text[], $2::text[]) AS new (name, value)
ORDER BY name, value ON CONFLICT DO NOTHING
