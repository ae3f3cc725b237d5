SELECT id, tenant_id, name FROM _promkeep.metric
