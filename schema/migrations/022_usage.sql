-- promkeep.usage_between left out rows that had moved to a new part since its transaction began to read.
--
-- Cost on an existing database: none, this only replaces a function.

-- The state of the parts is read before and must be the same in the statement's snapshot, and recent is locked first, for the reasons that _promkeep.packed_rows
-- gives: a transaction that has its locks already learns of new partitions by parts_state alone.
CREATE OR REPLACE FUNCTION promkeep.usage_between(from_time timestamptz, to_time timestamptz)
RETURNS TABLE (tenant text, metric text, series int8, rows int8, samples int8, bytes int8) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    mint int8 := _promkeep.first_ms(from_time);
    maxt int8 := _promkeep.last_ms(to_time);
    before text;
BEGIN
    LOCK TABLE ONLY _promkeep.recent IN ACCESS SHARE MODE;
    LOOP
        before := _promkeep.parts_state();
        RETURN QUERY
        SELECT t.name::text, m.name::text,
               (SELECT count(*) FROM _promkeep.series AS s WHERE s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37
                  AND s.started <= floor(maxt / 3600000.0) AND (s.ended IS NULL OR s.ended >= floor(mint / 3600000.0))),
               u.rows, u.samples, u.bytes
        FROM (
            SELECT r.series_id >> 37 AS metric_id, sum(r.members)::int8 AS rows, sum(r.n)::int8 AS samples, sum(r.bytes)::int8 AS bytes
            FROM (
                SELECT r.series_id, r.n, r.members, octet_length(r.data) AS bytes
                FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.last_id > p.merged_upto
                WHERE r.start <= maxt AND r."end" >= mint
                UNION ALL
                SELECT c.series_id, c.n, c.members, octet_length(c.data) FROM _promkeep.chunk AS c
                WHERE c.start >= floor(mint / 86400000.0)::int8 * 86400000 AND c.start <= maxt AND c."end" >= mint
            ) AS r GROUP BY 1
        ) AS u
        JOIN _promkeep.metric AS m ON m.id = u.metric_id JOIN _promkeep.tenant AS t ON t.id = m.tenant_id
        WHERE _promkeep.parts_state() IS NOT DISTINCT FROM before;
        EXIT WHEN FOUND OR _promkeep.parts_state() IS NOT DISTINCT FROM before;
    END LOOP;
END $$;
