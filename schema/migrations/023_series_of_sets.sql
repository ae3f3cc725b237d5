-- Series are created with one index less: those that are created with their label set stand in it.
--
-- A label set says which metrics its first series have, those of the call that created it; each of these is found by its ID, which is made of
-- metric and label set. Only series that come to a label set later are in an index by label set, which had all of them before.
-- This took a sixth of PostgreSQL's CPU for creating a series. Nothing is ever added to the metrics of a set.
--
-- Cost on an existing database: all series that are there count as late, so the index is built anew, about a second for a million series. No
-- table is written.

ALTER TABLE _promkeep.label_set ADD COLUMN metrics int4[] NOT NULL DEFAULT '{}'; -- of the series that were created with the set: some may be gone, or be late
ALTER TABLE _promkeep.series ADD COLUMN late bool NOT NULL DEFAULT true;         -- was not created with its label set
DROP INDEX _promkeep.series_label_set;
-- Entries of one set share their key.
CREATE INDEX series_label_set ON _promkeep.series ((id & 137438953471)) WHERE late;

DROP FUNCTION _promkeep.create_series(int4[], int4[], text[], int4[], int8);
DROP FUNCTION _promkeep.import_series(int4[], int4[], text[], int4[], int4[], int8);
DROP FUNCTION _promkeep.create_label_sets(text[]);

-- Finds label sets (each an array of label pairs, as text), and creates those that are missing, for series of the metrics (for each set an array, as text).
-- No two sets may be the same. Of each set ids is its ID, and known is that too, or 0 where the set is new. Who calls this holds the row of the table catalogue.
-- More than one set has the same labels where the catalogue is older than label sets; several says that some of these have.
--
-- Plans do not depend on the arguments, nor on statistics, of which there are none while a catalogue fills up: tables are read by their indexes, row by row.
-- Arrays are unnested in the list of what is selected, where their elements are not written into a temporary store each.
CREATE FUNCTION _promkeep.create_label_sets(labels text[], metrics text[], OUT ids int8[], OUT known int8[], OUT several bool) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    SELECT array_agg(coalesce(x.id, nextval('_promkeep.label_set_seq'))), array_agg(coalesce(x.id, 0)), count(*) <> cardinality(create_label_sets.labels)
    INTO create_label_sets.ids, create_label_sets.known, create_label_sets.several
    FROM (
        SELECT s.id
        FROM (SELECT generate_subscripts(create_label_sets.labels, 1) AS no, unnest(create_label_sets.labels)::int4[] AS labels) AS n
        LEFT JOIN _promkeep.label_set AS s ON hash_array_extended(s.labels, 0) = hash_array_extended(n.labels, 0) AND s.labels = n.labels
        ORDER BY n.no
    ) AS x;
    IF create_label_sets.several THEN
        SELECT array_agg(coalesce(x.id, nextval('_promkeep.label_set_seq'))), array_agg(coalesce(x.id, 0))
        INTO create_label_sets.ids, create_label_sets.known
        FROM (
            SELECT min(s.id) AS id
            FROM (SELECT generate_subscripts(create_label_sets.labels, 1) AS no, unnest(create_label_sets.labels)::int4[] AS labels) AS n
            LEFT JOIN _promkeep.label_set AS s ON hash_array_extended(s.labels, 0) = hash_array_extended(n.labels, 0) AND s.labels = n.labels
            GROUP BY n.no ORDER BY n.no
        ) AS x;
    END IF;
    INSERT INTO _promkeep.label_set (id, labels, metrics)
    SELECT n.id, n.labels::int4[], n.metrics::int4[]
    FROM (
        SELECT unnest(create_label_sets.ids) AS id, unnest(create_label_sets.known) AS known, unnest(create_label_sets.labels) AS labels,
               unnest(create_label_sets.metrics) AS metrics
    ) AS n
    WHERE n.known = 0;
    IF FOUND THEN
        PERFORM gin_clean_pending_list('_promkeep.label_set_labels');
    END IF;
END $$;

-- Finds the series of the metrics with the labels and creates those that are missing; ended ones become active again. labels has each label set once,
-- and set_metrics the metrics of its series here (as create_label_sets takes them); sets says for each series which of the sets it has, from 1. No two of
-- the series may be the same; in the order of metrics they are written fastest. hours is when each starts
-- at the latest, in hours since 1970. retired is what the caller read
-- in the table catalogue before it looked up any of the pairs and metrics; if some may have gone since, this fails with
-- serialization_failure. The answers are in the order of the arguments; ended is what it was before, NULL where the series was new or active.
CREATE FUNCTION _promkeep.create_series(metrics int4[], sets int4[], labels text[], set_metrics text[], hours int4[], retired int8)
RETURNS TABLE (version int8, ids int8[], started int4[], ended int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    label_sets record;
    set_ids int8[];
    known int8[];
    existed bool[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO create_series.version, now_retired;
    IF now_retired <> create_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    SELECT * INTO label_sets FROM _promkeep.create_label_sets(create_series.labels, create_series.set_metrics);
    set_ids := label_sets.ids;
    known := label_sets.known;
    IF label_sets.several THEN
        -- The series may have any of those with its labels.
        SELECT array_agg(x.id), array_agg(x.started), array_agg(x.ended), array_agg(x.existed)
        INTO create_series.ids, create_series.started, create_series.ended, existed
        FROM (
            SELECT coalesce(min(s.id), min(n.metric::int8 << 37 | set_ids[n.set])) AS id, least(min(s.started), min(n.hour)) AS started,
                   min(s.ended) AS ended, bool_or(s.id IS NOT NULL) AS existed
            FROM (
                SELECT a.*, create_series.labels[a.set]::int4[] AS labels
                FROM unnest(create_series.metrics, create_series.sets, create_series.hours) WITH ORDINALITY AS a (metric, set, hour, no) OFFSET 0
            ) AS n
            JOIN _promkeep.label_set AS l ON hash_array_extended(l.labels, 0) = hash_array_extended(n.labels, 0) AND l.labels = n.labels
            LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | l.id
            GROUP BY n.no ORDER BY n.no
        ) AS x;
    ELSE
        SELECT array_agg(x.id), array_agg(x.started), array_agg(x.ended), array_agg(x.existed)
        INTO create_series.ids, create_series.started, create_series.ended, existed
        FROM (
            SELECT n.metric::int8 << 37 | set_ids[n.set] AS id, least(s.started, n.hour) AS started, s.ended, s.id IS NOT NULL AS existed
            FROM (
                SELECT generate_subscripts(create_series.metrics, 1) AS no, unnest(create_series.metrics) AS metric, unnest(create_series.sets) AS set,
                       unnest(create_series.hours) AS hour
            ) AS n
            LEFT JOIN LATERAL (
                SELECT * FROM _promkeep.series AS s WHERE known[n.set] <> 0 AND s.id = n.metric::int8 << 37 | known[n.set]
                OFFSET 0 -- so that nothing is looked up for a set that is new
            ) AS s ON true
            ORDER BY n.no
        ) AS x;
    END IF;
    IF true = ANY (existed) THEN
        UPDATE _promkeep.series AS s SET ended = NULL, started = n.started
        FROM (SELECT unnest(create_series.ids) AS id, unnest(create_series.started) AS started, unnest(existed) AS existed) AS n
        WHERE n.existed AND s.id = n.id AND (s.ended IS NOT NULL OR s.started <> n.started);
    END IF;
    INSERT INTO _promkeep.series (id, started, late)
    SELECT n.id, n.started, known[n.set] <> 0
    FROM (
        SELECT unnest(create_series.ids) AS id, unnest(create_series.started) AS started, unnest(create_series.sets) AS set, unnest(existed) AS existed
    ) AS n
    WHERE NOT n.existed;
    RETURN NEXT;
END $$;

-- As create_series, for history: a series that is not active does not become so, but ends no earlier than the hour of ends.
CREATE FUNCTION _promkeep.import_series(metrics int4[], sets int4[], labels text[], set_metrics text[], hours int4[], ends int4[], retired int8)
RETURNS TABLE (version int8, ids int8[], started int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    label_sets record;
    set_ids int8[];
    known int8[];
    existed bool[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO import_series.version, now_retired;
    IF now_retired <> import_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    SELECT * INTO label_sets FROM _promkeep.create_label_sets(import_series.labels, import_series.set_metrics);
    set_ids := label_sets.ids;
    known := label_sets.known;
    SELECT array_agg(x.id), array_agg(x.started), array_agg(x.existed)
    INTO import_series.ids, import_series.started, existed
    FROM (
        SELECT coalesce(min(s.id), min(n.metric::int8 << 37 | set_ids[n.set])) AS id, least(min(s.started), min(n.hour)) AS started, bool_or(s.id IS NOT NULL) AS existed
        FROM (
            SELECT a.*, import_series.labels[a.set]::int4[] AS labels
            FROM unnest(import_series.metrics, import_series.sets, import_series.hours) WITH ORDINALITY AS a (metric, set, hour, no) OFFSET 0
        ) AS n
        JOIN _promkeep.label_set AS l ON hash_array_extended(l.labels, 0) = hash_array_extended(n.labels, 0) AND l.labels = n.labels
        LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | l.id
        GROUP BY n.no ORDER BY n.no
    ) AS x;
    UPDATE _promkeep.series AS s SET started = n.started, ended = CASE WHEN s.ended IS NOT NULL THEN greatest(s.ended, n.ended) END
    FROM unnest(import_series.ids, import_series.started, import_series.ends, existed) AS n (id, started, ended, existed)
    WHERE n.existed AND s.id = n.id AND (s.ended < n.ended OR s.started <> n.started);
    INSERT INTO _promkeep.series (id, started, ended, late)
    SELECT n.id, n.started, n.ended, known[n.set] <> 0
    FROM unnest(import_series.ids, import_series.started, import_series.ends, import_series.sets, existed) AS n (id, started, ended, set, existed)
    WHERE NOT n.existed ORDER BY n.id;
    RETURN NEXT;
END $$;

-- Removes those of the series that ended before an hour, and label sets that no series has any more.
CREATE OR REPLACE FUNCTION _promkeep.retire_series(ids int8[], before int4)
RETURNS TABLE (version int8, series int8, label_sets int8) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    sets int8[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version INTO retire_series.version;
    WITH gone AS (
        DELETE FROM _promkeep.series AS s WHERE s.id = ANY (retire_series.ids) AND s.ended < retire_series.before RETURNING s.id
    )
    SELECT count(*), array_agg(DISTINCT g.id & 137438953471) INTO retire_series.series, sets FROM gone AS g;
    WITH gone AS (
        DELETE FROM _promkeep.label_set AS l
        WHERE l.id = ANY (sets)
          AND NOT EXISTS (SELECT FROM _promkeep.series AS s WHERE s.id & 137438953471 = l.id AND s.late)
          AND NOT EXISTS (SELECT FROM unnest(l.metrics) AS m (id) JOIN _promkeep.series AS s ON s.id = m.id::int8 << 37 | l.id OFFSET 0) RETURNING l.id
    )
    SELECT count(*) INTO retire_series.label_sets FROM gone AS g;
    RETURN NEXT;
END $$;

-- The series of a tenant that match and may have samples in [mint, maxt] (ms). A NULL metric is any metric.
CREATE OR REPLACE FUNCTION _promkeep.select_series(metric text, matchers jsonb, mint int8, maxt int8, tenant text)
RETURNS TABLE (id int8, labels int4[]) LANGUAGE plpgsql STABLE AS $$
DECLARE
    m record;
    metrics int8[];
    pairs int4[];
    condition text := '';
    few bool := false;
BEGIN
    SELECT array_agg(x.id) INTO metrics FROM _promkeep.metric AS x
    WHERE x.tenant_id = (SELECT t.id FROM _promkeep.tenant AS t WHERE t.name = select_series.tenant)
      AND (select_series.metric IS NULL OR x.name = select_series.metric);
    FOR m IN SELECT * FROM _promkeep.parse_matchers(matchers) LOOP
        IF m.label = '__name__' THEN
            SELECT array_agg(x.id) INTO metrics FROM _promkeep.metric AS x
            WHERE x.id = ANY (metrics) AND _promkeep.value_matches(x.name, m.operator, m.operand);
        ELSIF m.operator IN ('=', '!=') AND m.operand <> '' THEN
            SELECT array_agg(l.id) INTO pairs FROM _promkeep.label AS l WHERE l.name = m.label AND l.value = m.operand;
            condition := condition || format(' AND %s l.labels && %L::int4[]', CASE m.operator WHEN '!=' THEN 'NOT' END, coalesce(pairs, '{}'));
            few := few OR m.operator = '=';
        ELSE
            -- A label that is not there has the value ''. So where that matches, pairs that do not match are ruled out.
            SELECT array_agg(l.id) INTO pairs FROM _promkeep.label AS l
            WHERE l.name = m.label
              AND _promkeep.value_matches(l.value, m.operator, m.operand) <> _promkeep.value_matches('', m.operator, m.operand);
            condition := condition || format(' AND %s l.labels && %L::int4[]',
                CASE WHEN _promkeep.value_matches('', m.operator, m.operand) THEN 'NOT' END, coalesce(pairs, '{}'));
            few := few OR NOT _promkeep.value_matches('', m.operator, m.operand);
        END IF;
    END LOOP;
    IF metrics IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE 'SELECT s.id, l.labels FROM '
        || CASE
           WHEN array_length(metrics, 1) = 1 THEN
               format('_promkeep.series AS s JOIN _promkeep.label_set AS l ON l.id = s.id & 137438953471 AND s.id = (%s | l.id) WHERE s.id >= %s AND s.id < %s',
                      metrics[1] << 37, metrics[1] << 37, (metrics[1] + 1) << 37)
           WHEN few THEN
               '_promkeep.label_set AS l CROSS JOIN LATERAL (
                    SELECT x.id, x.started, x.ended FROM unnest(l.metrics) AS m (id) JOIN _promkeep.series AS x ON x.id = m.id::int8 << 37 | l.id WHERE NOT x.late
                    UNION ALL
                    SELECT x.id, x.started, x.ended FROM _promkeep.series AS x WHERE x.id & 137438953471 = l.id AND x.late
                ) AS s WHERE s.id >> 37 = ANY ($3)'
           ELSE 'unnest($3) AS m (id) JOIN _promkeep.series AS s ON s.id >= m.id << 37 AND s.id < (m.id + 1) << 37
                 JOIN _promkeep.label_set AS l ON l.id = s.id & 137438953471 WHERE true' END
        || ' AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $1)' || condition
        USING floor(mint / 3600000.0)::int8, floor(maxt / 3600000.0)::int8, metrics;
END $$;
