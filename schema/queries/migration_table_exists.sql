SELECT to_regclass('_promkeep_migration.applied') IS NOT NULL
