-- New series and label sets come by COPY, which writes many rows at once. In the database they are only looked up, and of those label sets alone which
-- may be there: one with a label pair that the writer itself has just created is new.
--
-- Cost on an existing database: none.

DROP FUNCTION _promkeep.create_series(int4[], int4[], text[], text[], int4[], int8);
DROP FUNCTION _promkeep.import_series(int4[], int4[], text[], text[], int4[], int4[], int8);
DROP FUNCTION _promkeep.create_label_sets(text[], text[]);

-- Begins the creation of series, and counts up the version of the catalogue: until its transaction ends no other one changes series.
--
-- Finds label sets (each an array of label pairs, as text) and the series of the metrics with them; sets says for each series which of the sets it has, from 1.
-- No two of the sets, and of the series, may be the same. hours is when each series starts at the latest, in hours since 1970. Series that had ended become
-- active again; but if ends is not NULL (history), those that are active stay so, and the others end no earlier than its hours. retired is what the
-- caller read in the table catalogue before it looked up any of the pairs and metrics; if some may have gone since, this fails with
-- serialization_failure.
--
-- The answers are in the order of the arguments. ID 0 is what is not there; the caller adds it. New label sets take the IDs from first_set on, as many as new_sets
-- (which were not asked for) and those that are not there together. ended is what it was before, -2147483648 where the series was active.
-- More than one set has the same labels where the catalogue is older than label sets: a series may have any of them.
--
-- Plans do not depend on the arguments, nor on statistics, of which there are none while a catalogue fills up: tables are read by their indexes, row by row.
-- Arrays are unnested in the list of what is selected, where their elements are not written into a temporary store each.
CREATE FUNCTION _promkeep.find_series(metrics int4[], sets int4[], labels text[], hours int4[], ends int4[], new_sets int4, retired int8)
RETURNS TABLE (version int8, set_ids int8[], first_set int8, ids int8[], started int4[], ended int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    several bool;
    missing int8;
    existing int8;
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO find_series.version, now_retired;
    IF now_retired <> find_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    missing := 0;
    IF cardinality(find_series.labels) > 0 THEN
        SELECT array_agg(coalesce(x.id, 0)), count(*) <> cardinality(find_series.labels), count(*) FILTER (WHERE x.id IS NULL)
        INTO find_series.set_ids, several, missing
        FROM (
            SELECT s.id
            FROM (SELECT generate_subscripts(find_series.labels, 1) AS no, unnest(find_series.labels)::int4[] AS labels) AS n
            LEFT JOIN _promkeep.label_set AS s ON hash_array_extended(s.labels, 0) = hash_array_extended(n.labels, 0) AND s.labels = n.labels
            ORDER BY n.no
        ) AS x;
        IF several THEN
            SELECT array_agg(coalesce(x.id, 0)), count(*) FILTER (WHERE x.id IS NULL)
            INTO find_series.set_ids, missing
            FROM (
                SELECT min(s.id) AS id
                FROM (SELECT generate_subscripts(find_series.labels, 1) AS no, unnest(find_series.labels)::int4[] AS labels) AS n
                LEFT JOIN _promkeep.label_set AS s ON hash_array_extended(s.labels, 0) = hash_array_extended(n.labels, 0) AND s.labels = n.labels
                GROUP BY n.no ORDER BY n.no
            ) AS x;
            SELECT array_agg(x.id), array_agg(x.started), array_agg(x.ended), count(*) FILTER (WHERE x.id <> 0)
            INTO find_series.ids, find_series.started, find_series.ended, existing
            FROM (
                SELECT coalesce(min(s.id), 0) AS id, least(min(s.started), min(n.hour)) AS started, coalesce(min(s.ended), -2147483648) AS ended
                FROM (
                    SELECT a.*, find_series.labels[a.set]::int4[] AS labels
                    FROM unnest(find_series.metrics, find_series.sets, find_series.hours) WITH ORDINALITY AS a (metric, set, hour, no) OFFSET 0
                ) AS n
                LEFT JOIN _promkeep.label_set AS l ON hash_array_extended(l.labels, 0) = hash_array_extended(n.labels, 0) AND l.labels = n.labels
                LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | l.id
                GROUP BY n.no ORDER BY n.no
            ) AS x;
        ELSE
            SELECT array_agg(x.id), array_agg(x.started), array_agg(x.ended), count(*) FILTER (WHERE x.id <> 0)
            INTO find_series.ids, find_series.started, find_series.ended, existing
            FROM (
                SELECT coalesce(s.id, 0) AS id, least(s.started, n.hour) AS started, coalesce(s.ended, -2147483648) AS ended
                FROM (
                    SELECT generate_subscripts(find_series.metrics, 1) AS no, unnest(find_series.metrics) AS metric, unnest(find_series.sets) AS set,
                           unnest(find_series.hours) AS hour
                ) AS n
                LEFT JOIN LATERAL (
                    SELECT * FROM _promkeep.series AS s WHERE set_ids[n.set] <> 0 AND s.id = n.metric::int8 << 37 | set_ids[n.set]
                    OFFSET 0 -- so that nothing is looked up for a set that is new
                ) AS s ON true
                ORDER BY n.no
            ) AS x;
        END IF;
        IF existing > 0 AND find_series.ends IS NULL THEN
            UPDATE _promkeep.series AS s SET started = n.started, ended = NULL
            FROM (SELECT unnest(find_series.ids) AS id, unnest(find_series.started) AS started) AS n
            WHERE n.id <> 0 AND s.id = n.id AND (s.ended IS NOT NULL OR s.started <> n.started);
        ELSIF existing > 0 THEN
            UPDATE _promkeep.series AS s SET started = n.started, ended = CASE WHEN s.ended IS NOT NULL THEN greatest(s.ended, n.ends) END
            FROM (SELECT unnest(find_series.ids) AS id, unnest(find_series.started) AS started, unnest(find_series.ends) AS ends) AS n
            WHERE n.id <> 0 AND s.id = n.id AND (s.ended < n.ends OR s.started <> n.started);
        END IF;
    END IF;
    missing := missing + find_series.new_sets;
    IF missing > 0 THEN
        -- Only who holds the row of the table catalogue takes IDs.
        find_series.first_set := nextval('_promkeep.label_set_seq');
        PERFORM setval('_promkeep.label_set_seq', find_series.first_set + missing - 1);
    END IF;
    RETURN NEXT;
END $$;
