-- The owner of promkeep's database: an ordinary role, so that nothing promkeep does can come to need a superuser.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'promkeep') THEN
        CREATE ROLE promkeep LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    END IF;
END
$$;
