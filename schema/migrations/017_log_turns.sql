-- The log has two tables, which are written in turn: what was flushed does not count any more, and goes when the table that is not written
-- at the time is emptied, which leaves nothing behind to be vacuumed.
--
-- Cost on an existing database: none, it makes an empty table, and adds columns to a table of one row.

ALTER TABLE _promkeep.leader
    ADD COLUMN log_segment int4 NOT NULL DEFAULT 0, -- what is flushed of the log: all earlier segments,
    ADD COLUMN log_seq     int8 NOT NULL DEFAULT 0; -- and of this one the rows up to here

CREATE TABLE _promkeep.log_other (
    segment int4 NOT NULL,
    seq     int8 NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (segment, seq)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000000, autovacuum_analyze_threshold = 1000000000,
        autovacuum_vacuum_cost_delay = 0);
ALTER TABLE _promkeep.log_other ALTER COLUMN payload SET STORAGE MAIN;
