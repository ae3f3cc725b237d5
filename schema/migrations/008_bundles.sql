-- Bundles: a row of recent or chunk may hold the packed rows of several series of one metric (encoding 16, see
-- storage/chunks/BUNDLE.md), so that what a row and its index entry cost counts once for all of them.
--
-- Cost on an existing database: no row is rewritten; what is there stays as it is and goes on being read. The indexes on
-- series IDs are made again, which reads the tables once and keeps writers waiting meanwhile.

ALTER TABLE _promkeep.recent ADD COLUMN span int8 NOT NULL DEFAULT 0;    -- the last series ID less series_id, the first
ALTER TABLE _promkeep.recent ADD COLUMN members int4 NOT NULL DEFAULT 1; -- packed rows in data
DROP INDEX _promkeep.recent_series;
CREATE INDEX recent_series ON _promkeep.recent (series_id, (series_id + span));

-- A database that begins now gets its long-term store from layout/, after all migrations.
DO $$
BEGIN
    IF to_regclass('_promkeep.chunk') IS NOT NULL THEN
        ALTER TABLE _promkeep.chunk ADD COLUMN span int8 NOT NULL DEFAULT 0;
        ALTER TABLE _promkeep.chunk ADD COLUMN members int4 NOT NULL DEFAULT 1;
        DROP INDEX _promkeep.chunk_series;
        CREATE INDEX chunk_series ON _promkeep.chunk (series_id, (series_id + span));
    END IF;
END $$;

-- Reading in SQL -----------------------------------------------------------------------------------------------------------------

-- The packed rows of a row of a table. Where several share their timestamps, data is a zero byte, the length of the row of
-- timestamps (4 bytes), this, and the row with the numbers 0, 1, 2, … as timestamps: decode_shared reads it.
CREATE FUNCTION _promkeep.unbundle(first_id int8, first_start int8, first_end int8, first_version int4, first_encoding int2, bundle bytea, wanted int8[])
RETURNS TABLE (series_id int8, start int8, "end" int8, version int4, encoding int2, data bytea) LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    b bytea;
    at int4 := 1;
    r int8[];
    times int4;
    members int4;
    lengths int4[] := '{}';
    sizes int8[];
    shared int4[];
    ids int8[];
    starts int8[];
    spans int8[];
    versions int4[];
    encodings int4[];
    place int4;
    id int8 := first_id;
    t int8 := first_start;
    span int8 := 0;
    row_of_times bytea;
BEGIN
    IF first_encoding <> 16 THEN
        series_id := first_id;
        start := first_start;
        "end" := first_end;
        version := first_version;
        encoding := first_encoding;
        data := bundle;
        IF first_id = ANY (wanted) THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    b := substr(bundle, 1); -- fetched once, should it lie out of line
    IF get_byte(b, 0) <> 1 THEN
        RAISE EXCEPTION 'bundle of an unknown version %', get_byte(b, 0);
    END IF;
    r := _promkeep.uvarint(b, at);
    times := r[1];
    at := r[2];
    FOR i IN 1 .. times LOOP
        r := _promkeep.uvarint(b, at);
        lengths := lengths || r[1]::int4;
        at := r[2];
    END LOOP;
    r := _promkeep.uvarint(b, at);
    members := r[1];
    at := r[2];
    FOR i IN 1 .. members LOOP
        r := _promkeep.uvarint(b, at);
        id := id + r[1];
        r := _promkeep.svarint(b, r[2]::int4);
        t := t + r[1];
        r := _promkeep.svarint(b, r[2]::int4);
        span := span + r[1];
        r := _promkeep.svarint(b, r[2]::int4); -- samples
        ids[i] := id;
        starts[i] := t;
        spans[i] := span;
        r := _promkeep.uvarint(b, r[2]::int4);
        versions[i] := first_version - r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        encodings[i] := r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        shared[i] := r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        sizes[i] := r[1];
        at := r[2];
    END LOOP;
    at := at + 5; -- behind the checksum, and counted from 1
    place := at;
    FOR i IN 1 .. times LOOP
        place := place + lengths[i];
    END LOOP;
    FOR i IN 1 .. members LOOP
        IF ids[i] = ANY (wanted) THEN
            series_id := ids[i];
            start := starts[i];
            "end" := starts[i] + spans[i];
            version := versions[i];
            encoding := encodings[i];
            data := substr(b, place, sizes[i]::int4);
            IF shared[i] > 0 THEN
                row_of_times := substr(b, at + coalesce((SELECT sum(x) FROM unnest(lengths[1:shared[i] - 1]) AS x), 0)::int4, lengths[shared[i]]);
                data := '\x00'::bytea || int4send(octet_length(row_of_times)) || row_of_times || data;
            END IF;
            RETURN NEXT;
        END IF;
        place := place + sizes[i]::int4;
    END LOOP;
    IF place <> octet_length(b) + 1 THEN
        RAISE EXCEPTION 'the bundle is cut off';
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'a bundle of series from % on cannot be read: %', first_id, SQLERRM USING ERRCODE = 'data_corrupted';
END $$;

-- decode_row for rows from unbundle.
CREATE FUNCTION _promkeep.decode_shared(data bytea, mint int8, maxt int8, OUT t int8[], OUT v float8[]) LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    size int4;
    times int8[];
    first int4;
    last int4;
    r record;
BEGIN
    IF get_byte(data, 0) <> 0 THEN
        r := _promkeep.decode_row(data, mint, maxt);
        t := r.t;
        v := r.v;
        RETURN;
    END IF;
    size := (get_byte(data, 1) << 24) + (get_byte(data, 2) << 16) + (get_byte(data, 3) << 8) + get_byte(data, 4);
    r := _promkeep.decode_row(substr(data, 6, size), '-9223372036854775808', '9223372036854775807');
    times := r.t;
    -- The numbers of the timestamps in the range; width_bucket searches in halves.
    first := width_bucket(mint - 1, times);
    last := width_bucket(maxt, times) - 1;
    t := '{}';
    v := '{}';
    IF first > last THEN
        RETURN;
    END IF;
    r := _promkeep.decode_row(substr(data, 6 + size), first, last);
    t := times[r.t[1] + 1:r.t[array_upper(r.t, 1)] + 1];
    v := r.v;
    IF array_length(t, 1) <> array_length(v, 1) THEN
        RAISE EXCEPTION '% timestamps for % samples', array_length(t, 1), array_length(v, 1);
    END IF;
END $$;

-- The packed rows with samples of a metric in a range of time, by series. Rows that overlap come together, later versions last;
-- all others alone.
--
-- All rows are read by one statement whose snapshot is taken after its locks, so that what moves from recent to chunk is seen in
-- exactly one of them. It takes a VOLATILE function to get a snapshot of its own. That is not enough where rows move to
-- a partition that the statement's plan did not find yet: hence the state of the parts is read before, and must be the same
-- in the statement's snapshot. Where a transaction keeps an older snapshot (REPEATABLE READ), parts may have been dropped that
-- it would still have to read: that is an error.
CREATE OR REPLACE FUNCTION _promkeep.packed_rows(metric text, matchers jsonb, from_time timestamptz, to_time timestamptz, tenant text)
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
    -- A bundle is read where it holds a series that is wanted: width_bucket counts in halves how many of ids are not above a number. In
    -- chunk no row crosses a day, so none that begins before the day of mint is wanted.
    LOOP
        before := _promkeep.parts_state();
        RETURN QUERY
        WITH rows AS (
            SELECT u.series_id, u.start, u."end", u.version, u.data
            FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.series_id + r.span > p.merged_upto
            CROSS JOIN LATERAL _promkeep.unbundle(r.series_id, r.start, r."end", r.version, r.encoding, r.data, ids) AS u
            WHERE r.series_id >= lowest >> 37 << 37 AND r.series_id <= highest AND r.series_id + r.span >= lowest
              AND width_bucket(r.series_id + r.span, ids) > width_bucket(r.series_id - 1, ids) AND r.start <= maxt AND r."end" >= mint
              AND u.series_id > p.merged_upto AND u.encoding = 1 AND u.start <= maxt AND u."end" >= mint
            UNION ALL
            SELECT u.series_id, u.start, u."end", u.version, u.data
            FROM _promkeep.chunk AS c
            CROSS JOIN LATERAL _promkeep.unbundle(c.series_id, c.start, c."end", c.version, c.encoding, c.data, ids) AS u
            WHERE c.series_id >= lowest >> 37 << 37 AND c.series_id <= highest AND c.series_id + c.span >= lowest
              AND width_bucket(c.series_id + c.span, ids) > width_bucket(c.series_id - 1, ids)
              AND c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
              AND u.encoding = 1 AND u.start <= maxt AND u."end" >= mint
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
CREATE OR REPLACE FUNCTION _promkeep.decode_rows(series_id int8, data bytea[], mint int8, maxt int8, OUT t int8[], OUT v float8[])
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    IF array_length(data, 1) = 1 THEN
        r := _promkeep.decode_shared(data[1], mint, maxt);
        t := r.t;
        v := r.v;
    ELSE
        SELECT array_agg(s.t ORDER BY s.t), array_agg(s.v ORDER BY s.t) INTO t, v FROM (
            SELECT DISTINCT ON (x.t) x.t, x.v
            FROM unnest(data) WITH ORDINALITY AS d (one, number)
            CROSS JOIN LATERAL _promkeep.decode_shared(d.one, mint, maxt) AS y
            CROSS JOIN LATERAL unnest(y.t, y.v) AS x (t, v)
            ORDER BY x.t, d.number DESC
        ) AS s;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'a packed row of series % cannot be read: %', series_id, SQLERRM USING ERRCODE = 'data_corrupted';
END $$;

-- Usage --------------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION promkeep.usage_between(from_time timestamptz, to_time timestamptz)
RETURNS TABLE (tenant text, metric text, series int8, rows int8, samples int8, bytes int8) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    mint int8 := _promkeep.first_ms(from_time);
    maxt int8 := _promkeep.last_ms(to_time);
BEGIN
    RETURN QUERY
    SELECT t.name::text, m.name::text,
           (SELECT count(*) FROM _promkeep.series AS s WHERE s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37
              AND s.started <= floor(maxt / 3600000.0) AND (s.ended IS NULL OR s.ended >= floor(mint / 3600000.0))),
           u.rows, u.samples, u.bytes
    FROM (
        SELECT r.series_id >> 37 AS metric_id, sum(r.members)::int8 AS rows, sum(r.n)::int8 AS samples, sum(r.bytes)::int8 AS bytes
        FROM (
            SELECT r.series_id, r.n, r.members, octet_length(r.data) AS bytes
            FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.series_id + r.span > p.merged_upto
            WHERE r.start <= maxt AND r."end" >= mint
            UNION ALL
            SELECT c.series_id, c.n, c.members, octet_length(c.data) FROM _promkeep.chunk AS c
            WHERE c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
        ) AS r GROUP BY 1
    ) AS u
    JOIN _promkeep.metric AS m ON m.id = u.metric_id JOIN _promkeep.tenant AS t ON t.id = m.tenant_id;
END $$;
COMMENT ON FUNCTION promkeep.usage_between IS 'series that lived in the range of time, and packed rows, samples and bytes of the bundles that touch it, by metric';
