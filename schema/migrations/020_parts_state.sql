-- Samples in SQL: rows that had moved to a new part were missing where a statement was planned with what its session knew of the partitions before.
--
-- Cost on an existing database: none, this only replaces functions.

-- PostgreSQL takes note of partitions that others attached when it takes a lock that the transaction does not have yet. Whoever plans a statement
-- for the second time in a transaction has all of its locks, and may find the partitions as they were the first time. So with each look at the state a lock is taken, and
-- given back, on a table that is not read here: after that, a plan has at least the partitions that the state tells of.
CREATE OR REPLACE FUNCTION _promkeep.parts_state() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM pg_relation_size('_promkeep_migration.applied');
    RETURN (SELECT string_agg(p.id || ':' || p.merged_upto, ' ' ORDER BY p.id) FROM _promkeep.part AS p);
END $$;

-- The packed rows with samples of a metric in a range of time, by series. Rows that overlap come together, later versions last;
-- all others alone. Of a series of which something is erased they come once for each stretch of time between the bounds of that, as far as
-- they count in the stretch: mint and maxt are its bounds.
--
-- All rows are read by one statement whose snapshot is taken after its locks, so that what moves from recent to chunk is seen in
-- exactly one of them. It takes a VOLATILE function to get a snapshot of its own. That is not enough where rows move to
-- a partition that the statement's plan did not find yet: hence the state of the parts is read before, and must be the same
-- in the statement's snapshot. With the lock on recent no part that came since can go again, so no state comes back. Where a
-- transaction keeps an older snapshot (REPEATABLE READ), parts may have been dropped that it would still have to read: that is an error.
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
    old int8[];    -- series of which the retention erases something,
    old_to int8[]; -- and up to when
BEGIN
    LOCK TABLE ONLY _promkeep.recent IN ACCESS SHARE MODE;
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
    SELECT array_agg(e.series_id), array_agg(e.before - 1) INTO old, old_to
    FROM _promkeep.erased_by_retention(packed_rows.metric, coalesce(packed_rows.tenant, 'default'), ids) AS e WHERE e.before > mint;
    -- A bundle is read where it holds a series that is wanted: width_bucket counts in halves how many of ids are not above a number. In
    -- chunk no row crosses a day, so none that begins before the day of mint is wanted.
    LOOP
        before := _promkeep.parts_state();
        RETURN QUERY
        WITH rows AS (
            SELECT u.series_id, u.start, u."end", u.version, u.data
            FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.last_id > p.merged_upto
            CROSS JOIN LATERAL _promkeep.unbundle(r.series_id, r.start, r."end", r.version, r.encoding, r.data, ids) AS u
            WHERE r.series_id >= lowest >> 37 << 37 AND r.series_id <= highest AND r.last_id >= lowest
              AND width_bucket(r.last_id, ids) > width_bucket(r.series_id - 1, ids) AND r.start <= maxt AND r."end" >= mint
              AND u.series_id > p.merged_upto AND u.encoding = 1 AND u.start <= maxt AND u."end" >= mint
            UNION ALL
            SELECT u.series_id, u.start, u."end", u.version, u.data
            FROM _promkeep.chunk AS c
            CROSS JOIN LATERAL _promkeep.unbundle(c.series_id, c.start, c."end", c.version, c.encoding, c.data, ids) AS u
            WHERE c.series_id >= lowest >> 37 << 37 AND c.series_id <= highest AND c.last_id >= lowest
              AND width_bucket(c.last_id, ids) > width_bucket(c.series_id - 1, ids)
              AND c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
              AND u.encoding = 1 AND u.start <= maxt AND u."end" >= mint
        ), erased AS (
            SELECT i.id AS series_id, greatest(d.mint, packed_rows.mint) AS since, least(d.maxt, packed_rows.maxt) AS upto, d.version
            FROM _promkeep.deletion AS d JOIN _promkeep.tombstone AS s ON s.deletion_id = d.id JOIN unnest(ids) AS i (id) ON s.series_id = i.id
            WHERE d.mint <= packed_rows.maxt AND d.maxt >= packed_rows.mint
            UNION ALL
            SELECT i.id, greatest(d.mint, packed_rows.mint), least(d.maxt, packed_rows.maxt), d.version
            FROM _promkeep.deletion AS d JOIN _promkeep.tombstone AS s ON s.deletion_id = d.id JOIN unnest(ids) AS i (id) ON s.series_id = i.id >> 37 << 37
            WHERE d.mint <= packed_rows.maxt AND d.maxt >= packed_rows.mint
            UNION ALL
            SELECT o.id, packed_rows.mint, least(o.upto, packed_rows.maxt), 2147483647 FROM unnest(old, old_to) AS o (id, upto)
        ), cuts AS (
            SELECT e.series_id, packed_rows.mint AS since FROM erased AS e
            UNION SELECT e.series_id, e.since FROM erased AS e
            UNION SELECT e.series_id, e.upto + 1 FROM erased AS e WHERE e.upto < packed_rows.maxt
        ), stretches AS (
            SELECT c.series_id, c.since, coalesce(lead(c.since) OVER (PARTITION BY c.series_id ORDER BY c.since) - 1, packed_rows.maxt) AS upto FROM cuts AS c
        ), counting AS (
            SELECT r.*, coalesce(s.since, packed_rows.mint) AS since, coalesce(s.upto, packed_rows.maxt) AS upto
            FROM rows AS r LEFT JOIN stretches AS s ON s.series_id = r.series_id AND s.since <= r."end" AND s.upto >= r.start
            WHERE NOT EXISTS (SELECT FROM erased AS e WHERE e.series_id = r.series_id AND e.version >= r.version AND e.since <= s.since AND e.upto >= s.upto)
        ), marked AS (
            SELECT r.*, r.start > max(r."end") OVER (PARTITION BY r.series_id, r.since ORDER BY r.start, r.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS apart
            FROM counting AS r
        ), grouped AS (
            SELECT m.*, count(*) FILTER (WHERE m.apart) OVER (PARTITION BY m.series_id, m.since ORDER BY m.start, m.version) AS number FROM marked AS m
        ), together AS (
            SELECT g.series_id, g.since, g.upto, g.number, array_agg(g.data ORDER BY g.version) AS data
            FROM grouped AS g GROUP BY g.series_id, g.since, g.upto, g.number
        )
        SELECT t.series_id, f.object, t.since, t.upto, t.data
        FROM together AS t JOIN unnest(ids, objects) AS f (id, object) ON f.id = t.series_id
        WHERE _promkeep.parts_state() IS NOT DISTINCT FROM before ORDER BY t.series_id, t.since, t.number;
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
