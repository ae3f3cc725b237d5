INSERT INTO _promkeep.metric (tenant_id, name)
SELECT tenant_id, name FROM unnest($1::int4[], $2::text[]) AS new (tenant_id, name)
ORDER BY tenant_id, name ON CONFLICT DO NOTHING
