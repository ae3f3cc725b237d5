SELECT imports, imports_seen, imported_until FROM _promkeep.leader
