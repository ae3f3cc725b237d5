-- Series are created at less than half of the CPU: what is the same for the series of a target is looked up, and put into the index of label
-- pairs, once.
--
-- Series share label sets, so callers name each set once and say which of them a series has. A set that is new has no series to look for.
-- The index on pairs takes the new sets of a call in bulk, pair by pair, instead of all pairs of one set after those of another: they go to its
-- list of pending entries, which the same call empties again. What a call that was cut short leaves there, the next one or a vacuum moves; the list is
-- never longer than gin_pending_list_limit (4 MB unless set otherwise), for then an insertion empties it.
--
-- Cost on an existing database: none.

ALTER INDEX _promkeep.label_set_labels SET (fastupdate = on);

-- Finds label sets (each an array of label pairs, as text), and creates those that are missing. No two of them may be the same. Of each set
-- ids is its ID, and known is that too, or NULL where the set is new. Who calls this holds the row of the table catalogue.
-- More than one set has the same labels where the catalogue is older than label sets; several says that some of these have.
--
-- Plans do not depend on the arguments, nor on statistics, of which there are none while a catalogue fills up: tables are read by their indexes, row by row.
-- Arrays are unnested in the list of what is selected, where their elements are not written into a temporary store each.
CREATE FUNCTION _promkeep.create_label_sets(labels text[], OUT ids int8[], OUT known int8[], OUT several bool) LANGUAGE plpgsql VOLATILE
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

-- Finds the series of the metrics with the labels and creates those that are missing; ended ones become active again. labels has each label set once
-- (as create_label_sets takes it), sets says for each series which of them it has, from 1. No two of the series may be the same. hours is when each starts
-- at the latest, in hours since 1970. retired is what the caller read
-- in the table catalogue before it looked up any of the pairs and metrics; if some may have gone since, this fails with
-- serialization_failure. The answers are in the order of the arguments; ended is what it was before, NULL where the series was new or active.
CREATE FUNCTION _promkeep.create_series(metrics int4[], sets int4[], labels text[], hours int4[], retired int8)
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

-- As create_series, for history: a series that is not active does not become so, but ends no earlier than the hour of ends.
CREATE FUNCTION _promkeep.import_series(metrics int4[], sets int4[], labels text[], hours int4[], ends int4[], retired int8)
RETURNS TABLE (version int8, ids int8[], started int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    label_sets record;
    set_ids int8[];
    existed bool[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO import_series.version, now_retired;
    IF now_retired <> import_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    SELECT * INTO label_sets FROM _promkeep.create_label_sets(import_series.labels);
    set_ids := label_sets.ids;
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
    INSERT INTO _promkeep.series (id, started, ended)
    SELECT n.id, n.started, n.ended FROM unnest(import_series.ids, import_series.started, import_series.ends, existed) AS n (id, started, ended, existed)
    WHERE NOT n.existed ORDER BY n.id;
    RETURN NEXT;
END $$;

-- No promkeep calls these any more: one that is older than the schema does not run.
DROP FUNCTION _promkeep.create_series(int4[], text[], int4[], int8);
DROP FUNCTION _promkeep.import_series(int4[], text[], int4[], int4[], int8);
