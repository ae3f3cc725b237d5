-- The SQL surface, second part: samples, and what they take. docs/sql.md says how to use it.
--
-- Cost on an existing database: none, this only creates functions and views.

-- Rows of floats ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION _promkeep.parts_state() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT string_agg(p.id || ':' || p.merged_upto, ' ' ORDER BY p.id) FROM _promkeep.part AS p);
END $$;
COMMENT ON FUNCTION _promkeep.parts_state IS 'changes whenever rows move from one table to another; as of the calling statement''s snapshot';

-- The packed rows with samples of a metric in a range of time, by series. Rows that overlap come together, later versions last;
-- all others alone.
--
-- All rows are read by one statement whose snapshot is taken after its locks, so that what moves from recent to chunk is seen in
-- exactly one of them. It takes a VOLATILE function to get a snapshot of its own. That is not enough where rows move to
-- a partition that the statement's plan did not find yet: hence the state of the parts is read before, and must be the same
-- in the statement's snapshot. Where a transaction keeps an older snapshot (REPEATABLE READ), parts may have been dropped that
-- it would still have to read: that is an error.
CREATE FUNCTION _promkeep.packed_rows(metric text, matchers jsonb, from_time timestamptz, to_time timestamptz, tenant text)
RETURNS TABLE (series_id int8, labels jsonb, mint int8, maxt int8, data bytea[]) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    ids int8[];
    lowest int8;
    highest int8;
    objects jsonb[];
    before text;
    missing int4;
BEGIN
    mint := _promkeep.first_ms(coalesce(from_time, '-infinity'));
    maxt := _promkeep.last_ms(coalesce(to_time, 'infinity'));
    SELECT array_agg(s.id), array_agg(s.object), min(s.id), max(s.id) INTO ids, objects, lowest, highest FROM (
        SELECT x.id, (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (x.labels))
                     || CASE WHEN packed_rows.metric IS NULL
                        THEN (SELECT jsonb_build_object('__name__', m.name) FROM _promkeep.metric AS m WHERE m.id = x.id >> 37) ELSE '{}' END AS object
        FROM _promkeep.select_series(packed_rows.metric, coalesce(matchers, '{}'), mint, maxt, coalesce(packed_rows.tenant, 'default')) AS x
        ORDER BY x.id
    ) AS s;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    -- No row crosses a day, so none that begins before the day of mint is wanted.
    LOOP
        before := _promkeep.parts_state();
        RETURN QUERY
        WITH rows AS (
            SELECT r.series_id, r.start, r."end", r.version, r.data
            FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.series_id > p.merged_upto
            WHERE r.series_id = ANY (ids) AND r.series_id >= lowest AND r.series_id <= highest AND r.encoding = 1
              AND r.start >= floor(mint / 86400000.0)::int8 * 86400000 AND r.start <= maxt AND r."end" >= mint
            UNION ALL
            SELECT c.series_id, c.start, c."end", c.version, c.data
            FROM _promkeep.chunk AS c
            WHERE c.series_id = ANY (ids) AND c.series_id >= lowest AND c.series_id <= highest AND c.encoding = 1
              AND c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
        ), marked AS (
            SELECT r.*, r.start > max(r."end") OVER (PARTITION BY r.series_id ORDER BY r.start, r.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS apart
            FROM rows AS r
        ), grouped AS (
            SELECT m.*, count(*) FILTER (WHERE m.apart) OVER (PARTITION BY m.series_id ORDER BY m.start, m.version) AS number FROM marked AS m
        ), together AS (
            SELECT g.series_id, g.number, array_agg(g.data ORDER BY g.version) AS data FROM grouped AS g GROUP BY g.series_id, g.number
        )
        SELECT t.series_id, f.object, packed_rows.mint, packed_rows.maxt, t.data
        FROM together AS t JOIN unnest(ids, objects) AS f (id, object) ON f.id = t.series_id
        WHERE _promkeep.parts_state() IS NOT DISTINCT FROM before ORDER BY t.series_id, t.number;
        EXIT WHEN FOUND OR _promkeep.parts_state() IS NOT DISTINCT FROM before;
    END LOOP;

    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        SELECT p.id INTO missing FROM _promkeep.part AS p
        WHERE p.merged_upto < 9223372036854775807
          AND pg_partition_root(to_regclass('_promkeep.recent_' || p.id)) IS DISTINCT FROM '_promkeep.recent'::regclass;
        IF FOUND THEN
            RAISE EXCEPTION 'part % was merged and dropped since this transaction took its snapshot', missing
                USING ERRCODE = 'serialization_failure', HINT = 'Run the query again in a new transaction, or at the isolation level READ COMMITTED.';
        END IF;
    END IF;
END $$;

-- The samples of rows that packed_rows returned together: timestamps in ms, one sample for each, and values, NULL for stale
-- markers. There may be some outside of the range.
CREATE FUNCTION _promkeep.decode_rows(series_id int8, data bytea[], mint int8, maxt int8, OUT t int8[], OUT v float8[])
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    IF array_length(data, 1) = 1 THEN
        r := _promkeep.decode_row(data[1], mint, maxt);
        t := r.t;
        v := r.v;
    ELSE
        SELECT array_agg(s.t ORDER BY s.t), array_agg(s.v ORDER BY s.t) INTO t, v FROM (
            SELECT DISTINCT ON (x.t) x.t, x.v
            FROM unnest(data) WITH ORDINALITY AS d (one, number)
            CROSS JOIN LATERAL _promkeep.decode_row(d.one, mint, maxt) AS y
            CROSS JOIN LATERAL unnest(y.t, y.v) AS x (t, v)
            ORDER BY x.t, d.number DESC
        ) AS s;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'a packed row of series % cannot be read: %', series_id, SQLERRM USING ERRCODE = 'data_corrupted';
END $$;

-- Not SECURITY DEFINER, so that the planner puts the body in place of the call: conditions on labels and series_id are then
-- applied before anything is decoded. A body in this form is resolved here and now, whatever the caller's search_path, and needs of the caller no
-- right on the schema _promkeep.
CREATE FUNCTION promkeep.samples(metric text, matchers jsonb DEFAULT '{}', from_time timestamptz DEFAULT '-infinity',
    to_time timestamptz DEFAULT 'infinity', tenant text DEFAULT 'default', stale bool DEFAULT false)
RETURNS TABLE ("time" timestamptz, value float8, labels jsonb, series_id int8) LANGUAGE sql STABLE ROWS 100000
BEGIN ATOMIC
    SELECT to_timestamp(s.t / 1000::float8), s.v, s.labels, s.series_id
    FROM (
        SELECT p.series_id, p.labels, p.mint, p.maxt, unnest(d.t) AS t, unnest(d.v) AS v
        FROM _promkeep.packed_rows(metric, matchers, from_time, to_time, tenant) AS p
        CROSS JOIN LATERAL _promkeep.decode_rows(p.series_id, p.data, p.mint, p.maxt) AS d
    ) AS s
    WHERE s.t >= s.mint AND s.t <= s.maxt AND (stale OR s.v IS NOT NULL);
END;
COMMENT ON FUNCTION promkeep.samples IS 'the float samples of a metric in [from_time, to_time], as of the last flush; with stale also the stale markers, with value NULL';

GRANT EXECUTE ON FUNCTION _promkeep.packed_rows, _promkeep.decode_rows TO PUBLIC; -- which has no right on the schema

-- Views of single metrics ---------------------------------------------------------------------------------------------------

CREATE FUNCTION promkeep.create_metric_view(metric text, since interval DEFAULT NULL, tenant text DEFAULT 'default', view_name text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    columns text;
    target text;
BEGIN
    view_name := coalesce(view_name, metric);
    IF octet_length(view_name) > 63 THEN
        RAISE EXCEPTION 'PostgreSQL allows names of at most 63 bytes: give a shorter one as view_name => …' USING ERRCODE = 'name_too_long';
    END IF;
    SELECT string_agg(format(', labels ->> %L AS %I', l.name, CASE WHEN l.name IN ('time', 'value', 'series_id', 'labels') THEN 'label_' ELSE '' END || l.name), '' ORDER BY l.name)
    INTO columns FROM promkeep.label_names(metric, tenant) AS l (name) WHERE octet_length(l.name) <= 57;
    target := format('promkeep_metrics.%I', view_name);
    EXECUTE format('DROP VIEW IF EXISTS %s', target);
    EXECUTE format('CREATE VIEW %s AS SELECT time, value, series_id, labels%s FROM promkeep.samples(%L, %L, %s, %L, %L)', target, columns, metric, '{}',
        coalesce(format('now() - %L::interval', since), quote_literal('-infinity')), 'infinity', tenant);
    RETURN target;
END $$;
REVOKE ALL ON FUNCTION promkeep.create_metric_view FROM PUBLIC;
COMMENT ON FUNCTION promkeep.create_metric_view IS 'makes, or makes again, a view promkeep_metrics.<metric> with a column for each label; since bounds how far back it reads';

-- Usage and maintenance ------------------------------------------------------------------------------------------------------

CREATE FUNCTION promkeep.usage_between(from_time timestamptz, to_time timestamptz)
RETURNS TABLE (tenant text, metric text, series int8, rows int8, samples int8, bytes int8) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    mint int8 := _promkeep.first_ms(from_time);
    maxt int8 := _promkeep.last_ms(to_time);
BEGIN
    RETURN QUERY
    SELECT t.name::text, m.name::text, u.series, u.rows, u.samples, u.bytes
    FROM (
        SELECT r.series_id >> 37 AS metric_id, count(DISTINCT r.series_id) AS series, count(*) AS rows, sum(r.n)::int8 AS samples, sum(r.bytes)::int8 AS bytes
        FROM (
            SELECT r.series_id, r.n, octet_length(r.data) AS bytes
            FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.series_id > p.merged_upto
            WHERE r.start >= floor(mint / 86400000.0)::int8 * 86400000 AND r.start <= maxt AND r."end" >= mint
            UNION ALL
            SELECT c.series_id, c.n, octet_length(c.data) FROM _promkeep.chunk AS c
            WHERE c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
        ) AS r GROUP BY 1
    ) AS u
    JOIN _promkeep.metric AS m ON m.id = u.metric_id JOIN _promkeep.tenant AS t ON t.id = m.tenant_id;
END $$;
COMMENT ON FUNCTION promkeep.usage_between IS 'series, packed rows, their samples and bytes by metric, of rows that touch the range of time';

CREATE VIEW promkeep.usage AS SELECT * FROM promkeep.usage_between('-infinity', 'infinity');
COMMENT ON VIEW promkeep.usage IS 'promkeep.usage_between over all time: it reads every row, but not the data that lies out of line';

CREATE FUNCTION _promkeep.maintenance()
RETURNS TABLE (job text, state text, items int8, bytes int8, oldest timestamptz) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT 'flush', 'rows of the log', count(*), coalesce(sum(octet_length(l.payload)), 0)::int8,
        (SELECT min(s.opened_at) FROM _promkeep.log_segment AS s WHERE s.id = min(l.segment))
    FROM _promkeep.log AS l;
    RETURN QUERY SELECT x.job, x.state, count(p.id), coalesce(sum(pg_total_relation_size(to_regclass('_promkeep.recent_' || p.id))), 0)::int8, min(p.opened_at)
    FROM (VALUES ('merge', 'parts of fresh rows, open', 0, false, false), ('merge', 'parts of fresh rows, sealed', 0, true, false),
                 ('merge', 'parts of two-hour rows, open', 1, false, false), ('merge', 'parts of two-hour rows, sealed', 1, true, false),
                 ('drop', 'parts that are merged', NULL, NULL, true)) AS x (job, state, level, sealed, merged)
    LEFT JOIN _promkeep.part AS p ON (p.merged_upto = 9223372036854775807) = x.merged
        AND p.level = coalesce(x.level, p.level) AND p.sealed = coalesce(x.sealed, p.sealed)
    GROUP BY x.job, x.state, x.level, x.sealed ORDER BY x.level, x.sealed;
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
GRANT EXECUTE ON FUNCTION _promkeep.maintenance TO PUBLIC;

CREATE VIEW promkeep.maintenance AS SELECT * FROM _promkeep.maintenance();
COMMENT ON VIEW promkeep.maintenance IS 'what waits for each background job: how many items, their bytes on disk, since when';

-- Readers ----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION promkeep.grant_reader(role name) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA promkeep, promkeep_metrics TO %I', role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA promkeep, promkeep_metrics TO %I', role);
    -- Views to come, of metrics and of later versions.
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA promkeep GRANT SELECT ON TABLES TO %I', role);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA promkeep_metrics GRANT SELECT ON TABLES TO %I', role);
END $$;
REVOKE ALL ON FUNCTION promkeep.grant_reader FROM PUBLIC;
COMMENT ON FUNCTION promkeep.grant_reader IS 'lets a role read the schemas promkeep and promkeep_metrics, and nothing else of promkeep';

CREATE FUNCTION promkeep.revoke_reader(role name) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA promkeep REVOKE SELECT ON TABLES FROM %I', role);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA promkeep_metrics REVOKE SELECT ON TABLES FROM %I', role);
    EXECUTE format('REVOKE SELECT ON ALL TABLES IN SCHEMA promkeep, promkeep_metrics FROM %I', role);
    EXECUTE format('REVOKE USAGE ON SCHEMA promkeep, promkeep_metrics FROM %I', role);
END $$;
REVOKE ALL ON FUNCTION promkeep.revoke_reader FROM PUBLIC;
COMMENT ON FUNCTION promkeep.revoke_reader IS 'takes back what grant_reader gave';

-- Functions of the surface are for whoever may use its schemas, also where the database's defaults give PUBLIC nothing.
GRANT EXECUTE ON FUNCTION promkeep.samples, promkeep.find_series, promkeep.labels_of, promkeep.label, promkeep.label_names, promkeep.label_values,
    promkeep.is_stale, promkeep.usage_between TO PUBLIC;
