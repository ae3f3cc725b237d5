-- Exemplars: a bounded number of the youngest of each series.
--
-- Cost on an existing database: none, this only creates.

CREATE TABLE _promkeep.exemplar (
    series_id int8 NOT NULL,
    time      int8 NOT NULL,    -- ms
    digest    uuid NOT NULL,    -- first 128 bits of SHA-256 over value and labels, so that one that is sent twice is kept once
    value     float8 NOT NULL,
    labels    bytea NOT NULL,   -- each name and value behind its length, as in the log: see storage/payload.go
    PRIMARY KEY (series_id, time, digest)
);
CREATE INDEX exemplar_time ON _promkeep.exemplar USING brin (time);
