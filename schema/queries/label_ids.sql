SELECT id, name, value FROM _promkeep.label
JOIN unnest($1::text[], $2::text[]) AS wanted (name, value) USING (name, value)
