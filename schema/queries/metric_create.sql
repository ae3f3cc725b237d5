-- Those that are there use up no IDs.
INSERT INTO _promkeep.metric (tenant_id, name)
SELECT tenant_id, name FROM unnest($1::int4[], $2::text[]) AS new (tenant_id, name)
WHERE NOT EXISTS (SELECT FROM _promkeep.metric m WHERE m.tenant_id = new.tenant_id AND m.name = new.name)
ORDER BY tenant_id, name ON CONFLICT DO NOTHING
