-- The log has two tables, which are written in turn: what was flushed does not count any more, and goes when the table that is not written
-- at the time is emptied, which leaves nothing behind to be vacuumed.
--
-- Cost on an existing database: none, it makes an empty table, adds columns to a table of one row, and replaces a function.

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

CREATE OR REPLACE FUNCTION _promkeep.maintenance()
RETURNS TABLE (job text, state text, items int8, bytes int8, oldest timestamptz) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT 'flush', 'rows of the log', count(*), coalesce(sum(octet_length(l.payload)), 0)::int8,
        (SELECT min(s.opened_at) FROM _promkeep.log_segment AS s WHERE s.id = min(l.segment))
    FROM (SELECT segment, seq, payload FROM _promkeep.log UNION ALL SELECT segment, seq, payload FROM _promkeep.log_other) AS l
    WHERE (l.segment, l.seq) > (SELECT f.log_segment, f.log_seq FROM _promkeep.leader AS f);
    RETURN QUERY SELECT x.job, x.state, count(p.id), coalesce(sum(pg_total_relation_size(to_regclass('_promkeep.recent_' || p.id))), 0)::int8, min(p.opened_at)
    FROM (VALUES ('merge', 'parts of fresh rows, open', 0, false, false), ('merge', 'parts of fresh rows, sealed', 0, true, false),
                 ('merge', 'parts of two-hour rows, open', 1, false, false), ('merge', 'parts of two-hour rows, sealed', 1, true, false),
                 ('drop', 'parts that are merged', NULL, NULL, true)) AS x (job, state, level, sealed, merged)
    LEFT JOIN _promkeep.part AS p ON (p.merged_upto = 9223372036854775807) = x.merged
        AND p.level = coalesce(x.level, p.level) AND p.sealed = coalesce(x.sealed, p.sealed)
    GROUP BY x.job, x.state, x.level, x.sealed ORDER BY x.level, x.sealed;
    RETURN QUERY SELECT 'delete', 'deletions whose samples are still in rows', count(*), 0::int8, min(d.requested_at) FROM _promkeep.deletion AS d;
    -- Days are handed to the columnstore a few hours after they end; only the Community edition has one.
    IF EXISTS (SELECT FROM _promkeep.setting AS s WHERE s.name = 'layout' AND s.value = 'timescaledb')
       AND current_setting('timescaledb.license', true) = 'timescale' THEN
        RETURN QUERY EXECUTE $query$
            SELECT 'compress', 'past days', count(*), coalesce(sum(pg_total_relation_size(format('%I.%I', c.chunk_schema, c.chunk_name)::regclass)), 0)::int8,
                   to_timestamp(min(c.range_start_integer) / 1000::float8)
            FROM timescaledb_information.chunks AS c
            WHERE c.hypertable_schema = '_promkeep' AND c.hypertable_name = 'chunk' AND NOT c.is_compressed
              AND c.range_end_integer <= (extract(epoch FROM now()) * 1000)::int8
        $query$;
    END IF;
END $$;
