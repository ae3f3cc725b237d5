package sqltest

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// fill gives a store three days of http_requests_total and node_load1, merged but for the last hours, and a second tenant.
func fill(t testing.TB, pg *pgtest.DB) *store {
	t.Helper()
	s := openStore(t, pg)
	for hours := 6; hours <= 60; hours += 18 {
		from := s.now
		s.now = day.Add(time.Duration(hours) * time.Hour)
		s.gather(t)
		if hours == 6 {
			from = day
		}
		for i := range 12 {
			put := func(tenant string, l labels.Labels, v func(k int) float64) {
				s.write(t, tenant, l, func(b *storage.Batch) {
					k := 0
					for at := from; at.Before(s.now); at = at.Add(time.Minute) {
						b.Float(at.UnixMilli(), 0, v(int(at.Sub(day)/time.Minute)))
						k++
					}
				})
			}
			put("", labels.FromStrings("__name__", "http_requests_total", "job", fmt.Sprintf("api-%d", i/6), "pod", fmt.Sprintf("web-%d", i), "code", []string{"200", "500"}[i%2]),
				func(k int) float64 { return float64(k * (i + 1)) })
			if i < 2 {
				put("", labels.FromStrings("__name__", "node_load1", "instance", fmt.Sprintf("node-%d:9100", i)), func(k int) float64 { return float64(k%97) / 10 })
				put("team-b", labels.FromStrings("__name__", "node_load1", "instance", "elsewhere:9100", "time", "x"), func(k int) float64 { return 1 })
			}
		}
		s.flush(t)
	}
	return s
}

// one is the single value of a query, as text.
func one(t testing.TB, conn queryer, sql string, args ...any) (out string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT coalesce(("+sql+")::text, 'null')", args...).Scan(&out), sql)
	return out
}

func TestViewsAndHelpers(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := fill(t, pg)
		pool := pg.Pool(t)
		is := func(want, sql string) {
			t.Helper()
			require.Equal(t, want, one(t, pool, sql), sql)
		}
		is("15", "SELECT count(*) FROM promkeep.series")
		is("default http_requests_total 12 12, default node_load1 2 2, team-b node_load1 1 1",
			"SELECT string_agg(concat_ws(' ', tenant, metric, series, active), ', ' ORDER BY tenant, metric) FROM promkeep.metrics")
		is(`{"job": "api-0", "pod": "web-0", "code": "200"}`, `SELECT labels FROM promkeep.series WHERE metric = 'http_requests_total' AND labels ->> 'pod' = 'web-0'`)
		is("true", fmt.Sprintf(`SELECT bool_and(started <= to_timestamp(%d) AND started > to_timestamp(%d) AND ended IS NULL) FROM promkeep.series WHERE tenant = 'default'`, day.Unix(), day.Add(-2*time.Hour).Unix()))
		is("true", `SELECT bool_and(promkeep.labels_of(series_id) = labels) FROM promkeep.series`)
		is("null", `SELECT promkeep.labels_of(1)`)
		is("web-0 ", `SELECT promkeep.label('{"pod": "web-0"}', 'pod') || ' ' || promkeep.label('{"pod": "web-0"}', 'job')`)
		is("code,job,pod", `SELECT string_agg(l, ',') FROM promkeep.label_names('http_requests_total') AS l`)
		is("code,instance,job,pod", `SELECT string_agg(l, ',') FROM promkeep.label_names() AS l`)
		is("instance,time", `SELECT string_agg(l, ',') FROM promkeep.label_names(tenant => 'team-b') AS l`)
		is("api-0,api-1", `SELECT string_agg(l, ',') FROM promkeep.label_values('job') AS l`)
		is("null", `SELECT string_agg(l, ',') FROM promkeep.label_values('job', 'node_load1') AS l`)
		is("http_requests_total,node_load1", `SELECT string_agg(l, ',') FROM promkeep.label_values('__name__') AS l`)
		is("elsewhere:9100", `SELECT string_agg(l, ',') FROM promkeep.label_values('instance', tenant => 'team-b') AS l`)
		is("web-0 web-2 web-4", `SELECT string_agg(labels ->> 'pod', ' ' ORDER BY series_id) FROM promkeep.find_series('http_requests_total', '{"job": "api-0", "code": "!=500"}')`)
		is("0", `SELECT count(*) FROM promkeep.find_series('http_requests_total', to_time => '1999-01-01')`)
		is("14", `SELECT count(*) FROM promkeep.find_series(NULL)`)

		// Bytes, rows and samples are those of the tables.
		is("http_requests_total 12 43200, node_load1 2 7200, node_load1 1 3600", `SELECT string_agg(concat_ws(' ', metric, series, samples), ', ' ORDER BY tenant, metric) FROM promkeep.usage`)
		is("true", `SELECT sum(bytes) || ' ' || sum(rows) = (SELECT sum(octet_length(data)) || ' ' || sum(members) FROM
			(SELECT data, members FROM _promkeep.chunk UNION ALL SELECT data, members FROM _promkeep.recent JOIN _promkeep.part ON part = id AND last_id > merged_upto) AS r) FROM promkeep.usage`)
		is("3", fmt.Sprintf(`SELECT count(*) FROM promkeep.usage_between(to_timestamp(%d), to_timestamp(%d)) WHERE rows BETWEEN 1 AND 12`, day.Unix()+3600, day.Unix()+7200))

		// What waits: flushed rows that are not merged, none in the log; then one request in the log.
		is("0", `SELECT items FROM promkeep.maintenance WHERE state = 'rows of the log'`)
		is("1", `SELECT items FROM promkeep.maintenance WHERE state = 'parts of fresh rows, open' AND bytes > 0 AND oldest < now() + interval '1 s'`)
		s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(s.now.UnixMilli(), 0, 1) })
		is("true", `SELECT items = 1 AND bytes > 0 FROM promkeep.maintenance WHERE state = 'rows of the log'`)
		s.exec(t, "UPDATE _promkeep.part SET sealed = true")
		is("1", `SELECT items FROM promkeep.maintenance WHERE state = 'parts of fresh rows, sealed'`)
		compress := "0"
		if pg.HasTimescaleDB && !pg.ApacheOnly {
			compress = "1"
		}
		is(compress, "SELECT count(*) FROM promkeep.maintenance WHERE job = 'compress'")
	}, pgtest.AllEditions)
}

func TestMetricViews(t *testing.T) {
	s := fill(t, pgtest.New(t))
	pool := s.pg.Pool(t)
	require.Equal(t, "promkeep_metrics.http_requests_total", one(t, pool, "SELECT promkeep.create_metric_view('http_requests_total')"))
	require.Equal(t, "43200", one(t, pool, "SELECT count(*) FROM promkeep_metrics.http_requests_total"))
	require.Equal(t, "time value series_id labels code job pod", one(t, pool, "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'promkeep_metrics.http_requests_total'::regclass AND attnum > 0"))
	require.Equal(t, "3600", one(t, pool, "SELECT count(*) FROM promkeep_metrics.http_requests_total WHERE pod = 'web-3' AND code = '500'"))

	// A label that comes later is a column after the view was made again.
	s.write(t, "", labels.FromStrings("__name__", "http_requests_total", "path", "/"), func(b *storage.Batch) { b.Float(s.now.UnixMilli(), 0, 1) })
	s.flush(t)
	one(t, pool, "SELECT promkeep.create_metric_view('http_requests_total')")
	require.Equal(t, "1", one(t, pool, "SELECT value FROM promkeep_metrics.http_requests_total WHERE path = '/' AND pod IS NULL"))

	// Another tenant's, with a label that has the name of a column; and a bound on time.
	require.Equal(t, "promkeep_metrics.load_b", one(t, pool, "SELECT promkeep.create_metric_view('node_load1', tenant => 'team-b', view_name => 'load_b', since => '100 years')"))
	require.Equal(t, "3600 x", one(t, pool, "SELECT count(*) || ' ' || min(label_time) FROM promkeep_metrics.load_b"))
	one(t, pool, "SELECT promkeep.create_metric_view('node_load1', tenant => 'team-b', view_name => 'load_b', since => '1 hour')")
	require.Equal(t, "0", one(t, pool, "SELECT count(*) FROM promkeep_metrics.load_b"))
	_, err := pool.Exec(t.Context(), "SELECT promkeep.create_metric_view($1)", strings.Repeat("x", 64))
	require.ErrorContains(t, err, "view_name")
}

// TestReadersSeeTheSurfaceAlone: a role with nothing but grant_reader.
func TestReadersSeeTheSurfaceAlone(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		fill(t, pg)
		owner, super := pg.Pool(t), pg.SuperPool(t)
		role := pg.Name + "_reader"
		_, err := super.Exec(t.Context(), "CREATE ROLE "+role)
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx := context.Background()
			conn, err := pgx.Connect(ctx, pg.SuperURI)
			require.NoError(t, err)
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role)
			require.NoError(t, err)
		})
		reader, err := super.Acquire(t.Context())
		require.NoError(t, err)
		defer reader.Release()
		_, err = reader.Exec(t.Context(), "SET SESSION AUTHORIZATION "+role)
		require.NoError(t, err)
		defer reader.Exec(t.Context(), "RESET SESSION AUTHORIZATION")
		refused := func(sql string) {
			t.Helper()
			_, err := reader.Exec(t.Context(), sql)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg, sql)
			require.Equal(t, "42501", pg.Code, "%s: %s", sql, pg.Message)
		}
		refused("SELECT * FROM promkeep.samples('node_load1')")

		one(t, owner, "SELECT promkeep.grant_reader($1)", role)
		one(t, owner, "SELECT promkeep.create_metric_view('node_load1')") // after the grant
		one(t, owner, "SELECT promkeep.create_metric_view('node_load1', tenant => 'team-b', view_name => 'b')")

		for sql, want := range map[string]string{
			"SELECT count(*) FROM promkeep.samples('node_load1')":                         "7200",
			"SELECT count(*) FROM promkeep.samples('node_load1', (SELECT '{}'::jsonb))":   "7200", // not put in place by the planner
			"SELECT count(*) FROM promkeep.series":                                        "15",
			"SELECT count(*) FROM promkeep.metrics":                                       "3",
			"SELECT count(*) FROM promkeep.usage":                                         "3",
			"SELECT count(*) > 0 FROM promkeep.maintenance":                               "true",
			"SELECT count(*) FROM promkeep.find_series('node_load1')":                     "2",
			"SELECT count(*) FROM promkeep.label_names()":                                 "4",
			"SELECT count(*) FROM promkeep.label_values('instance')":                      "2",
			"SELECT count(promkeep.labels_of(series_id)) FROM promkeep.series":            "15",
			"SELECT promkeep.is_stale(1)":                                                 "false",
			"SELECT count(*) FROM promkeep_metrics.node_load1":                            "7200",
			"SELECT count(instance) FROM promkeep_metrics.b":                              "3600",
			"SELECT count(*) FROM promkeep.usage_between('-infinity', 'infinity')":        "3",
			"SELECT promkeep.label(labels, 'time') FROM promkeep_metrics.b LIMIT 1":       "x",
			"SELECT count(*) FROM promkeep.find_series('node_load1', tenant => 'team-b')": "1",
		} {
			require.Equal(t, want, one(t, reader, sql), sql)
		}
		for _, table := range []string{"tenant", "metric", "label", "series", "leader", "log", "log_other", "log_segment", "part", "recent", "chunk", "setting"} {
			refused("SELECT FROM _promkeep." + table)
			refused("DELETE FROM _promkeep." + table)
		}
		// Nor of all that there is, partitions and chunks included.
		require.Equal(t, "null", one(t, super, `SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class AS c
			WHERE c.relnamespace::regnamespace::text IN ('_promkeep', '_promkeep_migration', '_timescaledb_internal') AND c.relkind IN ('r', 'p', 'v', 'm')
			AND c.relowner = (SELECT relowner FROM pg_class WHERE oid = '_promkeep.chunk'::regclass)
			AND has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')`, role))
		require.NotEqual(t, "0", one(t, super, `SELECT count(*) FROM pg_class WHERE relnamespace = '_promkeep'::regnamespace AND has_table_privilege(relowner, oid, 'SELECT')`))
		for _, sql := range []string{
			"SELECT * FROM _promkeep.packed_rows('node_load1', '{}', NULL, NULL, 'default')",
			"SELECT _promkeep.maintenance()",
			"SELECT FROM _promkeep_migration.applied",
			"CREATE TABLE promkeep.x ()", "CREATE TABLE promkeep_metrics.x ()", "CREATE TABLE _promkeep.x ()",
			"DELETE FROM promkeep.series", "UPDATE promkeep.metrics SET series = 0", "INSERT INTO promkeep.usage VALUES ('a')",
			"DELETE FROM promkeep_metrics.node_load1",
			"SELECT promkeep.create_metric_view('node_load1')", "SELECT promkeep.grant_reader('public')", "SELECT promkeep.revoke_reader('public')",
			"DROP VIEW promkeep.usage", "ALTER FUNCTION promkeep.is_stale OWNER TO postgres",
		} {
			_, err := reader.Exec(t.Context(), sql)
			require.Error(t, err, sql)
		}

		// What the caller's search_path leads to is nothing to what runs as the owner.
		_, err = reader.Exec(t.Context(), `CREATE TEMP TABLE pg_class (oid int); SET search_path = pg_temp, public, promkeep`)
		require.NoError(t, err)
		require.Equal(t, "7200", one(t, reader, "SELECT count(*) FROM promkeep.samples('node_load1')"))

		one(t, owner, "SELECT promkeep.revoke_reader($1)", role)

		// Views of the owner's show what they select, to whoever may read them, and nothing else.
		_, err = owner.Exec(t.Context(), "CREATE SCHEMA team_b; CREATE VIEW team_b.load AS SELECT * FROM promkeep.samples('node_load1', tenant => 'team-b'); "+
			"GRANT USAGE ON SCHEMA team_b TO "+role+"; GRANT SELECT ON team_b.load TO "+role)
		require.NoError(t, err)
		require.Equal(t, "3600", one(t, reader, "SELECT count(*) FROM team_b.load"))
		refused("SELECT * FROM promkeep.samples('node_load1')")
		refused("SELECT * FROM promkeep_metrics.node_load1")
	})
}

// plan is what EXPLAIN says of one node.
type plan struct {
	NodeType string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Function string  `json:"Function Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []plan  `json:"Plans"`
}

func (p plan) walk(f func(plan)) {
	f(p)
	for _, sub := range p.Plans {
		sub.walk(f)
	}
}

// explain returns how many rows of which function a query took.
func explain(t testing.TB, conn queryer, sql string) map[string]int {
	t.Helper()
	var raw []byte
	require.NoError(t, conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+sql).Scan(&raw))
	var out []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(raw, &out))
	calls := map[string]int{}
	out[0].Plan.walk(func(p plan) {
		if p.Function != "" {
			calls[p.Function] += int(p.Rows*p.Loops + 0.5)
		}
	})
	return calls
}

// TestOnlyWhatIsWantedIsDecoded looks at the plans: conditions on time, metric and labels apply before anything is decoded.
func TestOnlyWhatIsWantedIsDecoded(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		fill(t, pg)
		pool := pg.Pool(t)
		decoded := func(sql string) int {
			t.Helper()
			calls := explain(t, pool, sql)
			require.Contains(t, calls, "decode_rows", "the function was put in place")
			return calls["decode_rows"]
		}
		hour := fmt.Sprintf("to_timestamp(%d), to_timestamp(%d)", day.Unix()+3600, day.Unix()+7200)
		all := decoded("SELECT * FROM promkeep.samples('http_requests_total')")
		require.GreaterOrEqual(t, all, 36, "a row for each of 12 series and three days")
		require.Equal(t, 12, decoded("SELECT * FROM promkeep.samples('http_requests_total', '{}', "+hour+")"), "of an hour")
		require.Equal(t, 3, decoded(`SELECT * FROM promkeep.samples('http_requests_total', '{"job": "api-0", "code": "200"}', `+hour+")"), "of an hour and three series")
		require.Equal(t, 1, decoded(`SELECT * FROM promkeep.samples('http_requests_total', '{}', `+hour+") WHERE labels ->> 'pod' = 'web-7'"), "a condition on labels")
		one(t, pool, "SELECT promkeep.create_metric_view('http_requests_total')")
		require.Equal(t, all/12, decoded("SELECT * FROM promkeep_metrics.http_requests_total WHERE pod = 'web-7'"), "a condition on a view's column")
		require.Equal(t, all, decoded(fmt.Sprintf("SELECT * FROM promkeep_metrics.http_requests_total WHERE time BETWEEN to_timestamp(%d) AND to_timestamp(%d)", day.Unix()+3600, day.Unix()+7200)),
			"docs/sql.md says that a condition on time comes too late; if this fails, it can be made to promise more")
	})
}

// TestOnlyNeededPartitionsAreRead has PostgreSQL show the plans within the functions.
func TestOnlyNeededPartitionsAreRead(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		fill(t, pg)
		conf, err := pgx.ParseConfig(pg.SuperURI)
		require.NoError(t, err)
		var notices strings.Builder
		conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices.WriteString(n.Message + "\n") }
		conn, err := pgx.ConnectConfig(t.Context(), conf)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "LOAD 'auto_explain'"); err != nil {
			t.Skipf("this server has no auto_explain: %s", err)
		}
		_, err = conn.Exec(t.Context(), "SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on; SET client_min_messages = log")
		require.NoError(t, err)
		scanned := regexp.MustCompile(`Scan.* on (?:\S+\.)?((?:_hyper_\d+_\d+_|compress_hyper_|chunk_|recent_)\S*)[^\n]*\(actual`)
		tables := func(sql string) []string {
			t.Helper()
			notices.Reset()
			_, err := conn.Exec(t.Context(), sql)
			require.NoError(t, err)
			var out []string
			for _, plan := range strings.Split(notices.String(), "Query Text:") {
				if strings.Contains(plan, "_promkeep.chunk AS c") {
					for _, m := range scanned.FindAllStringSubmatch(plan, -1) {
						// A partly compressed chunk is listed twice, and once more in its compressed form.
						if !strings.Contains(m[1], "compress") && !slices.Contains(out, m[1]) {
							out = append(out, m[1])
						}
					}
				}
			}
			return out
		}
		wide := tables("SELECT count(*) FROM promkeep.samples('http_requests_total')")
		narrow := tables(fmt.Sprintf("SELECT count(*) FROM promkeep.samples('http_requests_total', '{}', to_timestamp(%d), to_timestamp(%d))", day.Unix()+3600, day.Unix()+7200))
		days := 0
		for _, name := range narrow {
			if !strings.HasPrefix(name, "recent_") {
				days++
			}
		}
		require.Equal(t, 1, days, "of %v only the day asked for: %v", wide, narrow)
		require.Greater(t, len(wide), len(narrow))
	})
}
