SELECT id, tenant_id, name FROM _promkeep.metric WHERE id > $1 ORDER BY id
