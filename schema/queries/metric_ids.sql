SELECT id, tenant_id, name FROM _promkeep.metric
JOIN unnest($1::int4[], $2::text[]) AS wanted (tenant_id, name) USING (tenant_id, name)
