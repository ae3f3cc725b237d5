-- Imports: what history has been brought in, and how the promkeep that serves learns of it.
--
-- Cost on an existing database: none, this adds columns with constant defaults to a table of one row, and creates a table.

-- Imports write beside the leader. The version of a row is above all that were committed before it, whoever wrote them; but
-- flush_version counts flushes alone, because a leader that lost the answer to a commit looks there.
ALTER TABLE _promkeep.leader
    ADD COLUMN import_version int4 NOT NULL DEFAULT 0,           -- the highest version of an import
    ADD COLUMN imports        int8 NOT NULL DEFAULT 0,           -- counts the commits of imports
    ADD COLUMN imports_seen   int8 NOT NULL DEFAULT 0,           -- up to which of them the leader's memory agrees
    ADD COLUMN imported_until int8 NOT NULL DEFAULT -9223372036854775808, -- ms, the youngest sample ever imported
    ADD COLUMN imported_hour  int4 NOT NULL DEFAULT -2147483648; -- hours since 1970: no imported sample is younger

-- How far each import came. A row is written in the transaction of the samples that it speaks of.
CREATE TABLE _promkeep.import (
    source     uuid NOT NULL,  -- digest of what is imported and how: files, tenant, labels, matchers
    unit       int8 NOT NULL,  -- part of the source: ms, the day that it is of; 0 if the source has no parts
    cursor     text NOT NULL,  -- how far the unit came, in the words of the importer
    finished   bool NOT NULL,
    samples    int8 NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, unit)
);

-- The versions that imports gave, and the time (ms) of their samples. A merge gives its row the highest version of what it is made
-- of, so it must not bring rows together whose versions lie on both sides of an import's: those below would win over it.
CREATE TABLE _promkeep.import_version (
    version int4 PRIMARY KEY,
    mint    int8 NOT NULL,
    maxt    int8 NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
);

-- As create_series, for history: a series that is not active does not become so, but ends no earlier than the hour of ends.
CREATE FUNCTION _promkeep.import_series(metrics int4[], labels text[], hours int4[], ends int4[], retired int8)
RETURNS TABLE (version int8, ids int8[], started int4[]) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    now_retired int8;
    existed bool[];
BEGIN
    UPDATE _promkeep.catalogue AS c SET version = c.version + 1 WHERE c.only_row RETURNING c.version, c.retired INTO import_series.version, now_retired;
    IF now_retired <> import_series.retired THEN
        RAISE EXCEPTION 'label pairs or metrics were removed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO _promkeep.label_set (id, labels)
    SELECT nextval('_promkeep.label_set_seq'), n.labels
    FROM (SELECT a.labels::int4[] AS labels FROM unnest(import_series.labels) WITH ORDINALITY AS a (labels, no) GROUP BY 1 ORDER BY min(a.no)) AS n
    WHERE NOT EXISTS (
        SELECT FROM _promkeep.label_set AS l WHERE hash_array_extended(l.labels, 0) = hash_array_extended(n.labels, 0) AND l.labels = n.labels
    );
    SELECT array_agg(x.id ORDER BY x.no), array_agg(x.started ORDER BY x.no), array_agg(x.existed ORDER BY x.no)
    INTO import_series.ids, import_series.started, existed
    FROM (
        SELECT n.no, coalesce(min(s.id), min(n.metric::int8 << 37 | l.id)) AS id, least(min(s.started), min(n.hour)) AS started, bool_or(s.id IS NOT NULL) AS existed
        FROM unnest(import_series.metrics, import_series.labels, import_series.hours) WITH ORDINALITY AS n (metric, labels, hour, no)
        JOIN _promkeep.label_set AS l ON hash_array_extended(l.labels, 0) = hash_array_extended(n.labels::int4[], 0) AND l.labels = n.labels::int4[]
        LEFT JOIN _promkeep.series AS s ON s.id = n.metric::int8 << 37 | l.id
        GROUP BY n.no
    ) AS x;
    UPDATE _promkeep.series AS s SET started = n.started, ended = CASE WHEN s.ended IS NOT NULL THEN greatest(s.ended, n.ended) END
    FROM unnest(import_series.ids, import_series.started, import_series.ends, existed) AS n (id, started, ended, existed)
    WHERE n.existed AND s.id = n.id AND (s.ended < n.ended OR s.started <> n.started);
    INSERT INTO _promkeep.series (id, started, ended)
    SELECT n.id, n.started, n.ended FROM unnest(import_series.ids, import_series.started, import_series.ends, existed) AS n (id, started, ended, existed)
    WHERE NOT n.existed ORDER BY n.id;
    RETURN NEXT;
END $$;
