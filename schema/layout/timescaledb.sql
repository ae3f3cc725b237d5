-- The long-term store on TimescaleDB: a hypertable with a chunk a day of the first sample.
CREATE TABLE _promkeep.chunk (
    series_id int8 NOT NULL,           -- the first, if there are several
    last_id   int8 NOT NULL,           -- the last
    start     int8 NOT NULL,
    "end"     int8 NOT NULL,
    n         int4 NOT NULL,
    members   int4 NOT NULL DEFAULT 1, -- packed rows in data
    version   int4 NOT NULL,
    encoding  int2 NOT NULL,
    data      bytea NOT NULL
);
ALTER TABLE _promkeep.chunk ALTER COLUMN data SET STORAGE EXTERNAL;
SELECT create_hypertable('_promkeep.chunk', 'start', chunk_time_interval => 86400000::int8, create_default_indexes => false);
CREATE INDEX chunk_series ON _promkeep.chunk (series_id, last_id);
INSERT INTO _promkeep.setting VALUES ('layout', 'timescaledb');
