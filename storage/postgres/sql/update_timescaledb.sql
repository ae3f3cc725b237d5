-- TimescaleDB wants this to be the first statement of a session.
ALTER EXTENSION timescaledb UPDATE;
