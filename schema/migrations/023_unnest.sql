-- Creating series, as in 022: arrays are unnested in the list of what is selected, where their elements are not written into a temporary store each.
--
-- Cost on an existing database: none.

CREATE OR REPLACE FUNCTION _promkeep.create_label_sets(labels text[], OUT ids int8[], OUT known int8[], OUT several bool) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    SELECT array_agg(coalesce(x.id, nextval('_promkeep.label_set_seq'))), array_agg(x.id), bool_or(x.sets > 1)
    INTO create_label_sets.ids, create_label_sets.known, create_label_sets.several
    FROM (
        SELECT l.id, l.sets
        FROM (SELECT generate_subscripts(create_label_sets.labels, 1) AS no, unnest(create_label_sets.labels)::int4[] AS labels) AS n
        CROSS JOIN LATERAL (
            SELECT min(s.id) AS id, count(*) AS sets FROM _promkeep.label_set AS s
            WHERE hash_array_extended(s.labels, 0) = hash_array_extended(n.labels, 0) AND s.labels = n.labels
        ) AS l
        ORDER BY n.no
    ) AS x;
    INSERT INTO _promkeep.label_set (id, labels)
    SELECT n.id, n.labels::int4[]
    FROM (SELECT unnest(create_label_sets.ids) AS id, unnest(create_label_sets.known) AS known, unnest(create_label_sets.labels) AS labels) AS n
    WHERE n.known IS NULL;
    IF FOUND THEN
        PERFORM gin_clean_pending_list('_promkeep.label_set_labels');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION _promkeep.create_series(metrics int4[], sets int4[], labels text[], hours int4[], retired int8)
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
    SELECT * INTO label_sets FROM _promkeep.create_label_sets(create_series.labels);
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
            LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | known[n.set]
            ORDER BY n.no
        ) AS x;
    END IF;
    IF true = ANY (existed) THEN
        UPDATE _promkeep.series AS s SET ended = NULL, started = n.started
        FROM (SELECT unnest(create_series.ids) AS id, unnest(create_series.started) AS started, unnest(existed) AS existed) AS n
        WHERE n.existed AND s.id = n.id AND (s.ended IS NOT NULL OR s.started <> n.started);
    END IF;
    INSERT INTO _promkeep.series (id, started)
    SELECT n.id, n.started
    FROM (SELECT unnest(create_series.ids) AS id, unnest(create_series.started) AS started, unnest(existed) AS existed) AS n
    WHERE NOT n.existed ORDER BY n.id;
    RETURN NEXT;
END $$;
