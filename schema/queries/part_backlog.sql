-- A merged part waits for transactions that may still read it.
SELECT level, CASE WHEN merged_upto = 9223372036854775807 THEN 'merged' WHEN sealed THEN 'sealed' ELSE 'open' END AS state,
       count(*), coalesce(extract(epoch FROM now() - min(opened_at)), 0)::float8
FROM _promkeep.part GROUP BY 1, 2
