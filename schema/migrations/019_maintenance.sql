-- promkeep.maintenance says what waits for the retention, too, and of both tables of the log what is not flushed, and what is and still on disk.
--
-- Cost on an existing database: none, this only replaces a function.

CREATE OR REPLACE FUNCTION _promkeep.maintenance()
RETURNS TABLE (job text, state text, items int8, bytes int8, oldest timestamptz) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept    int8; -- ms: samples before it are past the retention
    pending int8;
BEGIN
    RETURN QUERY
    SELECT 'flush', x.state, count(l.payload), coalesce(sum(octet_length(l.payload)), 0)::int8,
           CASE WHEN NOT x.flushed THEN (SELECT s.opened_at FROM _promkeep.log_segment AS s WHERE s.id = min(l.segment)) END
    FROM (VALUES ('rows of the log', false), ('flushed rows of the log', true)) AS x (state, flushed)
    LEFT JOIN (
        SELECT l.segment, l.payload, (l.segment, l.seq) <= (f.log_segment, f.log_seq) AS flushed
        FROM (SELECT segment, seq, payload FROM _promkeep.log UNION ALL SELECT segment, seq, payload FROM _promkeep.log_other) AS l, _promkeep.leader AS f
    ) AS l ON l.flushed = x.flushed
    GROUP BY x.state, x.flushed ORDER BY x.flushed;
    RETURN QUERY SELECT x.job, x.state, count(p.id), coalesce(sum(pg_total_relation_size(to_regclass('_promkeep.recent_' || p.id))), 0)::int8, min(p.opened_at)
    FROM (VALUES ('merge', 'parts of fresh rows, open', 0, false, false), ('merge', 'parts of fresh rows, sealed', 0, true, false),
                 ('merge', 'parts of two-hour rows, open', 1, false, false), ('merge', 'parts of two-hour rows, sealed', 1, true, false),
                 ('drop', 'parts that are merged', NULL, NULL, true)) AS x (job, state, level, sealed, merged)
    LEFT JOIN _promkeep.part AS p ON (p.merged_upto = 9223372036854775807) = x.merged
        AND p.level = coalesce(x.level, p.level) AND p.sealed = coalesce(x.sealed, p.sealed)
    GROUP BY x.job, x.state, x.level, x.sealed ORDER BY x.level, x.sealed;
    RETURN QUERY SELECT 'delete', 'deletions whose samples are still in rows', count(*), 0::int8, min(d.requested_at) FROM _promkeep.deletion AS d;
    -- What the leader goes by is what it noted.
    SELECT s.value::int8 INTO kept FROM _promkeep.setting AS s WHERE s.name = 'kept_from_ms';
    SELECT s.value::int8 INTO pending FROM _promkeep.setting AS s WHERE s.name = 'retention_pending_days';
    IF EXISTS (SELECT FROM _promkeep.setting AS s WHERE s.name = 'layout' AND s.value = 'timescaledb') THEN
        RETURN QUERY EXECUTE $query$
            SELECT 'retention', 'days past the retention', count(*), coalesce(sum(pg_total_relation_size(format('%I.%I', c.chunk_schema, c.chunk_name)::regclass)), 0)::int8,
                   to_timestamp(min(c.range_start_integer) / 1000::float8)
            FROM timescaledb_information.chunks AS c
            WHERE c.hypertable_schema = '_promkeep' AND c.hypertable_name = 'chunk' AND c.range_end_integer <= $1
        $query$ USING kept;
    ELSE
        RETURN QUERY SELECT 'retention', 'days past the retention', count(*), coalesce(sum(pg_total_relation_size(d.id)), 0)::int8, to_timestamp(min(d.day) * 86400::float8)
        FROM (SELECT c.oid AS id, substring(c.relname FROM 'chunk_(.*)$')::int8 AS day FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
              WHERE i.inhparent = to_regclass('_promkeep.chunk')) AS d
        WHERE (d.day + 1) * 86400000 <= kept;
    END IF;
    RETURN QUERY SELECT 'retention', 'days that still hold what a rule lets go of', coalesce(pending, 0), 0::int8, NULL::timestamptz;
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
