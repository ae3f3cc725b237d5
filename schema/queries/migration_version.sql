SELECT coalesce(max(version), 0) FROM _promkeep_migration.applied
