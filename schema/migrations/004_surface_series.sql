-- The SQL surface, first part: series and their labels. docs/sql.md says how to use it.
--
-- Readers have rights on the schema promkeep alone. What they call runs with the rights of the schema's owner where it needs
-- _promkeep: views do by their nature, functions as SECURITY DEFINER with a fixed search_path. Functions are late bound: some
-- name _promkeep.chunk, which is created after the migrations.
--
-- Cost on an existing database: none, this only creates functions and views.

CREATE SCHEMA promkeep_metrics;
COMMENT ON SCHEMA promkeep_metrics IS 'promkeep: views of single metrics, made by promkeep.create_metric_view';

-- Matchers ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION _promkeep.value_matches(value text, operator text, operand text) RETURNS bool LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE operator
    WHEN '=' THEN value = operand
    WHEN '!=' THEN value <> operand
    WHEN '=~' THEN value COLLATE "C" ~ operand
    WHEN '!~' THEN value COLLATE "C" !~ operand
    WHEN '=~*' THEN value COLLATE "C" ~* operand
    WHEN '!~*' THEN value COLLATE "C" !~* operand
END;

-- The matchers of an object such as {"job": "api", "pod": ["=~web-.*", "!=web-3"]}, in Prometheus' notation but that a value
-- without an operator means equality. Regular expressions are anchored. Operators with a star ignore case.
CREATE FUNCTION _promkeep.parse_matchers(matchers jsonb) RETURNS TABLE (label text, operator text, operand text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    condition jsonb;
    flags text;
BEGIN
    IF jsonb_typeof(matchers) <> 'object' THEN
        RAISE EXCEPTION 'matchers must be an object such as {"job": "api"}, not %', matchers USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR label, condition IN
        SELECT m.key, c.value FROM jsonb_each(matchers) AS m
        CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(m.value) WHEN 'array' THEN m.value ELSE jsonb_build_array(m.value) END) AS c
    LOOP
        IF jsonb_typeof(condition) NOT IN ('string', 'number', 'boolean') THEN
            RAISE EXCEPTION 'the matcher of label "%" must be a string, not %', label, condition USING ERRCODE = 'invalid_parameter_value';
        END IF;
        operand := condition #>> '{}';
        operator := substring(operand FROM '^(=~|!~|!=|=)');
        operand := substr(operand, length(coalesce(operator, '')) + 1);
        operator := coalesce(operator, '=');
        IF operator IN ('=~', '!~') THEN
            -- PostgreSQL takes flags only at the very beginning; "s" is how it works anyway.
            flags := substring(operand FROM '^\(\?([is]+)\)');
            operand := '^(?:' || regexp_replace(operand, '^\(\?[is]+\)', '') || ')$';
            IF flags LIKE '%i%' THEN
                operator := operator || '*';
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- The series of a tenant that match and may have samples in [mint, maxt] (ms). A NULL metric is any metric.
CREATE FUNCTION _promkeep.select_series(metric text, matchers jsonb, mint int8, maxt int8, tenant text)
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
            condition := condition || format(' AND %s s.labels && %L::int4[]', CASE m.operator WHEN '!=' THEN 'NOT' END, coalesce(pairs, '{}'));
        ELSE
            -- A label that is not there has the value ''. So where that matches, pairs that do not match are ruled out.
            SELECT array_agg(l.id) INTO pairs FROM _promkeep.label AS l
            WHERE l.name = m.label
              AND _promkeep.value_matches(l.value, m.operator, m.operand) <> _promkeep.value_matches('', m.operator, m.operand);
            condition := condition || format(' AND %s s.labels && %L::int4[]',
                CASE WHEN _promkeep.value_matches('', m.operator, m.operand) THEN 'NOT' END, coalesce(pairs, '{}'));
        END IF;
    END LOOP;
    IF metrics IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE 'SELECT s.id, s.labels FROM '
        || CASE array_length(metrics, 1)
           WHEN 1 THEN format('_promkeep.series AS s WHERE s.id >= %s AND s.id < %s', metrics[1] << 37, (metrics[1] + 1) << 37)
           ELSE 'unnest($3) AS m (id) JOIN _promkeep.series AS s ON s.id >= m.id << 37 AND s.id < (m.id + 1) << 37 WHERE true' END
        || ' AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $1)' || condition
        USING floor(mint / 3600000.0)::int8, floor(maxt / 3600000.0)::int8, metrics;
END $$;

-- Series and labels -------------------------------------------------------------------------------------------------------

-- The first and the last millisecond since 1970 that is not before, or not after, a time; within what timestamptz can hold.
CREATE FUNCTION _promkeep.first_ms(at timestamptz) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(-210866803200000, least(9224318015999999, ceil(extract(epoch FROM at) * 1000)))::int8;

CREATE FUNCTION _promkeep.last_ms(at timestamptz) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(-210866803200000, least(9224318015999999, floor(extract(epoch FROM at) * 1000)))::int8;

CREATE VIEW promkeep.series AS
SELECT s.id AS series_id, t.name::text AS tenant, m.name::text AS metric,
       (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (s.labels)) AS labels,
       to_timestamp(s.started * 3600::float8) AS started, to_timestamp((s.ended + 1) * 3600::float8) AS ended
FROM _promkeep.tenant AS t
JOIN _promkeep.metric AS m ON m.tenant_id = t.id
JOIN _promkeep.series AS s ON s.id >= m.id::int8 << 37 AND s.id < (m.id::int8 + 1) << 37;
COMMENT ON VIEW promkeep.series IS 'all series of all tenants; labels are without the name, no sample is before started, none at or after ended (NULL: still active)';

CREATE VIEW promkeep.metrics AS
SELECT t.name::text AS tenant, m.name::text AS metric, s.series, s.active, s.started, s.ended
FROM _promkeep.tenant AS t
JOIN _promkeep.metric AS m ON m.tenant_id = t.id
CROSS JOIN LATERAL (
    SELECT count(*) AS series, count(*) FILTER (WHERE x.ended IS NULL) AS active, to_timestamp(min(x.started) * 3600::float8) AS started,
           CASE WHEN bool_and(x.ended IS NOT NULL) THEN to_timestamp((max(x.ended) + 1) * 3600::float8) END AS ended
    FROM _promkeep.series AS x WHERE x.id >= m.id::int8 << 37 AND x.id < (m.id::int8 + 1) << 37
) AS s;
COMMENT ON VIEW promkeep.metrics IS 'all metrics of all tenants, with how many series they have and how many of those are active';

CREATE FUNCTION promkeep.find_series(metric text, matchers jsonb DEFAULT '{}', from_time timestamptz DEFAULT '-infinity',
    to_time timestamptz DEFAULT 'infinity', tenant text DEFAULT 'default')
RETURNS TABLE (series_id int8, metric_name text, labels jsonb) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, m.name, (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (s.labels))
    FROM _promkeep.select_series($1, $2, _promkeep.first_ms($3), _promkeep.last_ms($4), $5) AS s
    JOIN _promkeep.metric AS m ON m.id = s.id >> 37
$$;
COMMENT ON FUNCTION promkeep.find_series IS 'the series of a metric (NULL: of any) that match and may have samples in the range of time';

CREATE FUNCTION promkeep.labels_of(series_id int8) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM _promkeep.label AS l WHERE l.id = ANY (s.labels))
    FROM _promkeep.series AS s WHERE s.id = $1
$$;
COMMENT ON FUNCTION promkeep.labels_of IS 'the labels of a series, without its name; NULL if there is no such series';

CREATE FUNCTION promkeep.label(labels jsonb, name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(labels ->> name, '');
COMMENT ON FUNCTION promkeep.label IS 'the value of a label; as in Prometheus '''' if it is not there';

CREATE FUNCTION promkeep.label_names(metric text DEFAULT NULL, tenant text DEFAULT 'default')
RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT l.name::text FROM _promkeep.select_series($1, '{}', -9223372036854775808, 9223372036854775807, $2) AS s
    CROSS JOIN LATERAL unnest(s.labels) AS pair JOIN _promkeep.label AS l ON l.id = pair ORDER BY 1
$$;
COMMENT ON FUNCTION promkeep.label_names IS 'the names of the labels of a metric (NULL: of any), sorted';

CREATE FUNCTION promkeep.label_values(name text, metric text DEFAULT NULL, tenant text DEFAULT 'default')
RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.name::text FROM _promkeep.metric AS m JOIN _promkeep.tenant AS t ON t.id = m.tenant_id
    WHERE $1 = '__name__' AND t.name = $3 AND ($2 IS NULL OR m.name = $2)
    UNION ALL
    SELECT l.value::text FROM _promkeep.label AS l
    WHERE l.name = $1 AND l.id IN (SELECT unnest(s.labels) FROM _promkeep.select_series($2, '{}', -9223372036854775808, 9223372036854775807, $3) AS s)
    ORDER BY 1
$$;
COMMENT ON FUNCTION promkeep.label_values IS 'the values of a label over the series of a metric (NULL: of any), sorted; of __name__ the metrics';

-- Promkeep keeps a float64 bit by bit, and SQL can look at bits that it cannot make: so values of promkeep.samples have NULL in
-- place of the marker, and what came in some other way may have the marker itself.
CREATE FUNCTION promkeep.is_stale(value float8) RETURNS bool LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value IS NULL OR float8send(value) = '\x7ff0000000000002'::bytea;
COMMENT ON FUNCTION promkeep.is_stale IS 'whether a value of promkeep.samples(…, stale => true) says that the series has ended, at least for a while';
