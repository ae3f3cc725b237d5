INSERT INTO _promkeep_migration.applied (version, name) VALUES ($1, $2)
