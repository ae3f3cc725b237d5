-- Returns those that it made. Those that are there use up no IDs.
INSERT INTO _promkeep.label (name, value)
SELECT name, value FROM unnest($1::text[], $2::text[]) AS new (name, value)
WHERE NOT EXISTS (SELECT FROM _promkeep.label l WHERE l.name = new.name AND l.value = new.value)
ORDER BY name, value ON CONFLICT DO NOTHING
RETURNING id, name, value
