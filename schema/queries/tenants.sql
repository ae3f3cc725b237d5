SELECT id, name FROM _promkeep.tenant
