-- The catalogue, smaller and with an end: series share label sets, what retention has left behind can go, and readers can tell
-- whether anything has changed.
--
-- All labels of a series but its name are a label set, which metrics of one target have in common. The ID of a series is its metric and
-- its label set, so neither is stored again, nor a hash to find the series by. Series that were there before have a label set each, since
-- their IDs stay.
--
-- Cost on an existing database: the catalogue is written anew, about 20 s for a million series.

-- One row. Whoever changes series or label sets, or removes label pairs or metrics, updates it first and so holds it until the
-- commit: changes come one after another, and their versions in the order of their commits.
CREATE TABLE _promkeep.catalogue (
    only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),
    version  int8 NOT NULL DEFAULT 0,  -- counts changes of series
    retired  int8 NOT NULL DEFAULT 0   -- counts removals of label pairs and metrics: IDs that were looked up before may be gone
) WITH (fillfactor = 10);              -- room for the updates to come within the page
INSERT INTO _promkeep.catalogue DEFAULT VALUES;

CREATE TABLE _promkeep.label_set (
    id     int8 NOT NULL,          -- below 2^37, never used again
    labels int4[] NOT NULL         -- label.id of each pair but the name, in the order of label names
);
INSERT INTO _promkeep.label_set SELECT id & 137438953471, labels FROM _promkeep.series ORDER BY 1;
ALTER TABLE _promkeep.label_set ADD PRIMARY KEY (id);
CREATE INDEX label_set_labels ON _promkeep.label_set USING gin (labels) WITH (fastupdate = off);
-- For finding a set by all its pairs. The hash may collide: the array decides.
CREATE INDEX label_set_hash ON _promkeep.label_set (hash_array_extended(labels, 0));
ALTER SEQUENCE _promkeep.series_seq RENAME TO label_set_seq;

CREATE TABLE _promkeep.series_next (
    id      int8 NOT NULL,         -- metric.id << 37 | label_set.id: sorting by id clusters by metric
    started int4 NOT NULL,         -- hours since 1970: no sample of the series is older
    ended   int4                   -- hours since 1970: no sample is younger; NULL while the series is active
);
INSERT INTO _promkeep.series_next SELECT id, started, ended FROM _promkeep.series ORDER BY id;

-- Views keep their identity, whatever users have made of them.
CREATE OR REPLACE VIEW promkeep.series AS
SELECT s.id AS series_id, t.name::text AS tenant, m.name::text AS metric,
       (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (ls.labels)) AS labels,
       to_timestamp(s.started * 3600::float8) AS started, to_timestamp((s.ended + 1) * 3600::float8) AS ended
FROM _promkeep.tenant AS t
JOIN _promkeep.metric AS m ON m.tenant_id = t.id
JOIN _promkeep.series_next AS s ON s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37
JOIN _promkeep.label_set AS ls ON ls.id = s.id & 137438953471;

CREATE OR REPLACE VIEW promkeep.metrics AS
SELECT t.name::text AS tenant, m.name::text AS metric, s.series, s.active, s.started, s.ended
FROM _promkeep.tenant AS t
JOIN _promkeep.metric AS m ON m.tenant_id = t.id
CROSS JOIN LATERAL (
    SELECT count(*) AS series, count(*) FILTER (WHERE x.ended IS NULL) AS active, to_timestamp(min(x.started) * 3600::float8) AS started,
           CASE WHEN bool_and(x.ended IS NOT NULL) THEN to_timestamp((max(x.ended) + 1) * 3600::float8) END AS ended
    FROM _promkeep.series_next AS x WHERE x.id >= m.id::int8 << 37 AND x.id < (m.id::int8 + 1) << 37
) AS s;

DROP TABLE _promkeep.series;
ALTER TABLE _promkeep.series_next RENAME TO series;
ALTER TABLE _promkeep.series ADD PRIMARY KEY (id);
-- The series of a label set. Entries of one set share their key.
CREATE INDEX series_label_set ON _promkeep.series ((id & 137438953471));

-- Finds the series of the metrics with the labels (the array of a label set, as text) and creates those that are missing;
-- ended ones become active again. hours is when each starts at the latest, in hours since 1970. retired is what the caller read
-- in the table catalogue before it looked up any of the pairs and metrics; if some may have gone since, this fails with
-- serialization_failure. The answers are in the order of the arguments; ended is what it was before, NULL where the series was new or active.
--
-- The order of joins and their kinds are fixed, because there are no statistics while a catalogue fills up.
CREATE FUNCTION _promkeep.create_series(metrics int4[], labels text[], hours int4[], retired int8)
RETURNS TABLE (version int8, ids int8[], started int4[], ended int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    existed bool[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO create_series.version, now_retired;
    IF now_retired <> create_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO _promkeep.label_set (id, labels)
    SELECT nextval('_promkeep.label_set_seq'), n.labels
    FROM (SELECT a.labels::int4[] AS labels FROM unnest(create_series.labels) WITH ORDINALITY AS a (labels, no) GROUP BY 1 ORDER BY min(a.no)) AS n
    WHERE NOT EXISTS (
        SELECT FROM _promkeep.label_set AS l WHERE hash_array_extended(l.labels, 0) = hash_array_extended(n.labels, 0) AND l.labels = n.labels
    );
    -- More than one set has the labels where the catalogue is older than label sets: then the series may have any of them.
    SELECT array_agg(x.id ORDER BY x.no), array_agg(x.started ORDER BY x.no), array_agg(x.ended ORDER BY x.no), array_agg(x.existed ORDER BY x.no)
    INTO create_series.ids, create_series.started, create_series.ended, existed
    FROM (
        SELECT n.no, coalesce(min(s.id), min(n.metric::int8 << 37 | l.id)) AS id, least(min(s.started), min(n.hour)) AS started,
               min(s.ended) AS ended, bool_or(s.id IS NOT NULL) AS existed
        FROM unnest(create_series.metrics, create_series.labels, create_series.hours) WITH ORDINALITY AS n (metric, labels, hour, no)
        JOIN _promkeep.label_set AS l ON hash_array_extended(l.labels, 0) = hash_array_extended(n.labels::int4[], 0) AND l.labels = n.labels::int4[]
        LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | l.id
        GROUP BY n.no
    ) AS x;
    UPDATE _promkeep.series AS s SET ended = NULL, started = n.started
    FROM unnest(create_series.ids, create_series.started, existed) AS n (id, started, existed)
    WHERE n.existed AND s.id = n.id AND (s.ended IS NOT NULL OR s.started <> n.started);
    INSERT INTO _promkeep.series (id, started)
    SELECT n.id, n.started FROM unnest(create_series.ids, create_series.started, existed) AS n (id, started, existed)
    WHERE NOT n.existed ORDER BY n.id;
    RETURN NEXT;
END $$;

-- Removes those of the series that ended before an hour, and label sets that no series has any more.
CREATE FUNCTION _promkeep.retire_series(ids int8[], before int4)
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
        WHERE l.id = ANY (sets) AND NOT EXISTS (SELECT FROM _promkeep.series AS s WHERE s.id & 137438953471 = l.id) RETURNING l.id
    )
    SELECT count(*) INTO retire_series.label_sets FROM gone AS g;
    RETURN NEXT;
END $$;

-- Removes those of the label pairs and metrics that nothing has any more.
CREATE FUNCTION _promkeep.retire_names(pairs int4[], metrics int4[])
RETURNS TABLE (retired int8, pairs_gone int4[], metrics_gone int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    UPDATE _promkeep.catalogue AS c SET retired = c.retired + 1 WHERE c.only_row RETURNING c.retired INTO retire_names.retired;
    WITH gone AS (
        DELETE FROM _promkeep.label AS p
        WHERE p.id = ANY (retire_names.pairs) AND NOT EXISTS (SELECT FROM _promkeep.label_set AS l WHERE l.labels @> ARRAY[p.id]) RETURNING p.id
    )
    SELECT coalesce(array_agg(g.id), '{}') INTO retire_names.pairs_gone FROM gone AS g;
    WITH gone AS (
        DELETE FROM _promkeep.metric AS m
        WHERE m.id = ANY (retire_names.metrics)
          AND NOT EXISTS (SELECT FROM _promkeep.series AS s WHERE s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37) RETURNING m.id
    )
    SELECT coalesce(array_agg(g.id), '{}') INTO retire_names.metrics_gone FROM gone AS g;
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
        ELSE
            -- A label that is not there has the value ''. So where that matches, pairs that do not match are ruled out.
            SELECT array_agg(l.id) INTO pairs FROM _promkeep.label AS l
            WHERE l.name = m.label
              AND _promkeep.value_matches(l.value, m.operator, m.operand) <> _promkeep.value_matches('', m.operator, m.operand);
            condition := condition || format(' AND %s l.labels && %L::int4[]',
                CASE WHEN _promkeep.value_matches('', m.operator, m.operand) THEN 'NOT' END, coalesce(pairs, '{}'));
        END IF;
    END LOOP;
    IF metrics IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE 'SELECT s.id, l.labels FROM '
        || CASE array_length(metrics, 1)
           WHEN 1 THEN format('_promkeep.series AS s JOIN _promkeep.label_set AS l ON l.id = s.id & 137438953471 WHERE s.id >= %s AND s.id < %s',
                              metrics[1] << 37, (metrics[1] + 1) << 37)
           ELSE 'unnest($3) AS m (id) JOIN _promkeep.series AS s ON s.id >= m.id << 37 AND s.id < (m.id + 1) << 37
                 JOIN _promkeep.label_set AS l ON l.id = s.id & 137438953471 WHERE true' END
        || ' AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $1)' || condition
        USING floor(mint / 3600000.0)::int8, floor(maxt / 3600000.0)::int8, metrics;
END $$;

CREATE OR REPLACE FUNCTION promkeep.labels_of(series_id int8) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (ls.labels))
    FROM _promkeep.series AS s JOIN _promkeep.label_set AS ls ON ls.id = s.id & 137438953471 WHERE s.id = $1
$$;
