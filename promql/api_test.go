package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

func unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

func TestAPI(t *testing.T) {
	s := serve(t, func(o *Options) {
		o.Flags = map[string]string{"db.uri": "postgres://keep:hunter2@db/keep", "web.listen-address": ":9201"}
		o.ConfigYAML = func() string { return "a: b\n" }
		o.CORSOrigin = `https?://(one|two)\.example`
		o.MaxQueryLength = 2000
	})
	now := unix(s.at(samples - 1))

	for path, want := range map[string]string{
		"/api/v1/format_query?query=foo%2Fbar":      `"foo / bar"`,
		"/api/v1/status/config":                     `{"yaml":"a: b\n"}`,
		"/api/v1/status/flags":                      `{"db.uri":"postgres://keep:\u003csecret\u003e@db/keep","web.listen-address":":9201"}`,
		"/api/v1/scrape_pools":                      `{"scrapePools":[]}`,
		"/api/v1/targets/metadata":                  `[]`,
		"/api/v1/query?query=up%3D%3D0&time=" + now: `{"resultType":"vector","result":[{"metric":{"__name__":"up","cluster":"b","instance":"two:9100","job":"node"},"value":[` + now + `,"0"]}]}`,
		"/api/v1/query?query=count(up)&lookback_delta=1s&time=" + unix(s.at(10).Add(5*time.Second)): `{"resultType":"vector","result":[]}`,
		"/api/v1/query?query=count(up)&time=" + unix(s.at(10).Add(5*time.Second)):                   `{"resultType":"vector","result":[{"metric":{},"value":[` + unix(s.at(10).Add(5*time.Second)) + `,"3"]}]}`,
		"/api/v1/series?match[]=up{cluster=\"a\"}&match[]=spans":                                    `[{"__name__":"spans","http.status_code":"200"},{"__name__":"up","cluster":"a","instance":"one:9090","job":"prometheus"}]`,
		"/api/v1/labels": `["__name__","cluster","code","http.status_code","instance","job"]`,
		"/api/v1/series?match[]=up&start=1&end=2":        `[]`,
		"/api/v1/query_exemplars?query=up&start=1&end=2": `[]`,
	} {
		t.Run(path, func(t *testing.T) {
			a := s.get(t, strings.ReplaceAll(path, `"`, "%22"))
			require.Equal(t, 200, a.code, a.body)
			require.JSONEq(t, want, string(a.Data))
		})
	}

	for _, c := range []struct {
		path      string
		code      int
		errorType string
	}{
		{"/api/v1/query?query=up%7B", 400, "bad_data"},
		{"/api/v1/query", 400, "bad_data"},
		{"/api/v1/query?query=up&time=noon", 400, "bad_data"},
		{"/api/v1/query?query=up&limit=-1", 400, "bad_data"},
		{"/api/v1/query?query=up&timeout=x", 400, "bad_data"},
		{"/api/v1/query?query=up&lookback_delta=x", 400, "bad_data"},
		{"/api/v1/query?query=up%2Bon(job)up&time=" + now, 422, "execution"},
		{"/api/v1/query_range?query=up&start=0&end=100000&step=1", 400, "bad_data"}, // more than 11,000 points
		{"/api/v1/query_range?query=up&start=10&end=1&step=1", 400, "bad_data"},
		{"/api/v1/query_range?query=up&start=0&end=1&step=0", 400, "bad_data"},
		{"/api/v1/series", 400, "bad_data"},
		{"/api/v1/series?match[]={}", 400, "bad_data"},
		{"/api/v1/labels?limit=x", 400, "bad_data"},
		{"/api/v1/label/a%ff/values", 400, "bad_data"},
		{"/api/v1/metadata?limit=x", 400, "bad_data"},
		{"/api/v1/nothing", 404, "not_found"},
		{"/api/v1/admin/nothing", 404, "not_found"},
		{"/api/v1/query?query=" + strings.Repeat("a", 2001), 400, "bad_data"},
		{"/api/v1/query?query=up&timeout=0.000000001", 503, "timeout"},
		{"/api/v1/status/tsdb", 501, "internal"},
	} {
		t.Run(c.path[:min(len(c.path), 60)], func(t *testing.T) {
			a := s.get(t, c.path)
			require.Equal(t, c.code, a.code, a.body)
			require.Equal(t, "error", a.Status)
			require.Equal(t, c.errorType, a.ErrorType)
			require.NotEmpty(t, a.Error)
			require.Equal(t, c.code == 503, a.header.Get("Retry-After") != "")
		})
	}

	t.Run("stats=all", func(t *testing.T) {
		a := s.get(t, "/api/v1/query_range?query=up&start="+unix(s.at(0))+"&end="+unix(s.at(8))+"&step=60&stats=all")
		var data struct {
			Stats struct {
				Timings map[string]float64
				Samples struct {
					TotalQueryableSamples        int
					TotalQueryableSamplesPerStep [][2]float64
				}
			}
		}
		require.NoError(t, unmarshal(a.Data, &data))
		require.Equal(t, 9, data.Stats.Samples.TotalQueryableSamples)
		require.Len(t, data.Stats.Samples.TotalQueryableSamplesPerStep, 3)
		require.Contains(t, data.Stats.Timings, "evalTotalTime")
		require.Contains(t, data.Stats.Timings, "execQueueTime")
	})
	t.Run("limit", func(t *testing.T) {
		a := s.get(t, "/api/v1/query?query=up&limit=2&time="+now)
		require.Equal(t, []string{"results truncated due to limit"}, a.Warnings)
		require.Equal(t, 2, strings.Count(string(a.Data), `"__name__"`))
	})
	t.Run("limit of series and labels", func(t *testing.T) {
		for path, first := range map[string]string{
			"/api/v1/series?match[]=up&limit=1": `{"__name__":"up","cluster":"a","instance":"one:9090","job":"prometheus"}`,
			"/api/v1/labels?limit=1":            `"__name__"`,
			"/api/v1/labels?match[]=up&limit=1": `"__name__"`,
			"/api/v1/label/job/values?limit=1":  `"node"`,
		} {
			a := s.get(t, path)
			require.Equal(t, 200, a.code, a.body)
			require.JSONEq(t, "["+first+"]", string(a.Data), path)
			require.Equal(t, []string{"results truncated due to limit"}, a.Warnings, path)
			a = s.get(t, strings.ReplaceAll(path, "limit=1", "limit=100"))
			require.Greater(t, len(a.Data), len(first)+2, path)
			require.Empty(t, a.Warnings, path)
		}
	})
	t.Run("every path, with each of its methods", func(t *testing.T) {
		params := url.Values{"query": {"up"}, "match[]": {"up"}, "time": {now}, "start": {unix(s.at(0))}, "end": {now}, "step": {"60"}}
		paths := map[string]string{"/metadata": "GET", "/status/config": "GET", "/federate": "GET"}
		for _, route := range upstreamRoutes {
			paths[route.path] = route.methods
		}
		for _, path := range []string{"/query", "/query_range", "/query_exemplars", "/format_query", "/parse_query", "/series", "/labels"} {
			require.Equal(t, "GET POST", paths[path])
		}
		for _, path := range []string{"/label/{name}/values", "/status/buildinfo", "/status/runtimeinfo", "/status/flags", "/targets", "/rules", "/alerts", "/alertmanagers"} {
			require.Equal(t, "GET", paths[path])
		}
		for path, methods := range paths {
			target := apiPrefix + strings.ReplaceAll(path, "{name}", "job")
			if path == "/federate" {
				target = path
			}
			for method := range strings.FieldsSeq(methods) {
				head, body := method+" "+target+" HTTP/1.1\nAccept-Encoding: gzip"+form, params.Encode()
				if method == "GET" {
					head, body = method+" "+target+"?"+body+" HTTP/1.1\nAccept-Encoding: gzip", ""
				}
				a := s.raw(t, head, body)
				require.Equal(t, 200, a.code, "%s %s: %s", method, path, a.body)
				require.Equal(t, "gzip", a.header.Get("Content-Encoding"), "%s %s", method, path)
				if path != "/federate" {
					require.Equal(t, "success", a.Status, path)
					require.NotEqual(t, "null", string(a.Data), path)
				}
			}
		}
		for _, target := range []string{"/api/v1/label/job/values", "/api/v1/status/flags", "/api/v1/metadata"} {
			require.Equal(t, 405, s.raw(t, "POST "+target+" HTTP/1.1"+form, "a=b").code, target)
		}
	})
	t.Run("CORS", func(t *testing.T) {
		for origin, want := range map[string]string{"https://one.example": "https://one.example", "https://three.example": ""} {
			for _, path := range []string{"/api/v1/query?query=1", "/api/v1/metadata"} {
				req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
				require.NoError(t, err)
				req.Header.Set("Origin", origin)
				resp, err := s.Client().Do(req)
				require.NoError(t, err)
				a := read(t, resp)
				require.Equal(t, want, a.header.Get("Access-Control-Allow-Origin"), path)
			}
		}
		a := s.raw(t, "OPTIONS /api/v1/query HTTP/1.1\nOrigin: http://two.example\nAccess-Control-Request-Method: POST", "")
		require.Equal(t, 204, a.code)
		require.Contains(t, a.header.Get("Access-Control-Allow-Methods"), "POST")
	})
	t.Run("body too large", func(t *testing.T) {
		small := serveOver(t, s.store, func(o *Options) { o.MaxRequestBytes = 1000 })
		a := small.raw(t, "POST /api/v1/query HTTP/1.1"+form, "query="+strings.Repeat("1", 2000))
		require.Equal(t, 413, a.code)
	})
	t.Run("runtimeinfo", func(t *testing.T) {
		require.Contains(t, s.get(t, "/api/v1/status/runtimeinfo").body, `"storageRetention":"90d"`)
	})
	t.Run("metrics of its own", func(t *testing.T) {
		body := s.get(t, "/api/v1/status/self_metrics").body
		for _, name := range []string{"promkeep_read_request_duration_seconds", "promkeep_read_waiting", "promkeep_read_rejected_total", "prometheus_engine_queries"} {
			require.Contains(t, body, `"`+name+`"`)
		}
	})
	t.Run("features", func(t *testing.T) {
		require.Contains(t, s.get(t, "/api/v1/features").body, `"at_modifier":true`)
	})
	t.Run("parse_query", func(t *testing.T) {
		require.Contains(t, s.get(t, "/api/v1/parse_query?query=up").body, `"type":"vectorSelector"`)
	})
}

// passing is a fault of the database that will be over.
type passing struct{ error }

func (passing) RetryAfter() time.Duration { return time.Second }

// faulty fails where and as the test says, and otherwise is the store. The faults of a database cannot be had on demand in
// all places; that a real outage arrives here as such is a test of the storage.
type faulty struct {
	storage.SampleAndChunkQueryable
	querier, read error
	panics        bool
}

func (f faulty) Querier(mint, maxt int64) (storage.Querier, error) {
	if f.panics {
		panic("a bug")
	}
	if f.querier != nil {
		return nil, f.querier
	}
	q, err := f.SampleAndChunkQueryable.Querier(mint, maxt)
	return faultyQuerier{q, f.read}, err
}

type faultyQuerier struct {
	storage.Querier
	err error
}

func (q faultyQuerier) Select(context.Context, bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
	return storage.ErrSeriesSet(q.err)
}

func TestFaultsOfTheStorage(t *testing.T) {
	s := serve(t)
	away := fmt.Errorf("reading rows: %w", passing{errors.New("connection refused")})
	broken := errors.New("relation does not exist")
	for name, c := range map[string]struct {
		with      faulty
		code      int
		errorType string
	}{
		"away when opening": {faulty{querier: away}, 503, "unavailable"},
		"away when reading": {faulty{read: away}, 503, "unavailable"},
		"broken":            {faulty{read: broken}, 500, "internal"},
		"timed out":         {faulty{read: context.DeadlineExceeded}, 503, "timeout"},
		"canceled":          {faulty{read: context.Canceled}, 499, "canceled"},
		"panics":            {faulty{panics: true}, 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			c.with.SampleAndChunkQueryable = s.store
			f := serveOver(t, s.store, func(o *Options) { o.Queryable = c.with })
			for _, path := range []string{"/api/v1/query?query=up", "/api/v1/series?match[]=up"} {
				a := f.get(t, path)
				require.Equal(t, c.code, a.code, a.body)
				require.Equal(t, c.errorType, a.ErrorType, path)
				require.Equal(t, c.code == 503, a.header.Get("Retry-After") != "")
			}
			require.Equal(t, c.code, f.get(t, "/federate?match[]=up").code)
		})
	}
}

// TestQueriesWaitInAQueueWithAnEnd blocks the queries that run in the storage and counts what happens to more of them.
func TestQueriesWaitInAQueueWithAnEnd(t *testing.T) {
	s := serve(t)
	gate := &gated{SampleAndChunkQueryable: s.store, entered: make(chan struct{}, 10), open: make(chan struct{})}
	engine := NewEngine(EngineOptions{MaxConcurrency: 2, MaxQueued: 1})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	f := serveOver(t, s.store, func(o *Options) { o.Queryable, o.Engine = gate, engine })
	codes := make(chan int, 3)
	query := func() {
		resp, err := f.Client().PostForm(f.URL+"/api/v1/query", url.Values{"query": {"up"}})
		if err != nil {
			codes <- 0
			return
		}
		resp.Body.Close()
		codes <- resp.StatusCode
	}
	for range 3 {
		go query()
	}
	<-gate.entered
	<-gate.entered
	require.Eventually(t, func() bool { return len(engine.limiter.admitted) == 3 }, time.Minute, time.Millisecond)
	a := f.get(t, "/api/v1/query?query=up")
	require.Equal(t, 503, a.code)
	require.Equal(t, "unavailable", a.ErrorType)
	require.Contains(t, a.Error, "2 running and 1 waiting")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Empty(t, gate.entered, "the third waits")
	close(gate.open)
	for range 3 {
		require.Equal(t, 200, <-codes)
	}
	require.Equal(t, 200, f.get(t, "/api/v1/query?query=up").code)
	require.Empty(t, engine.limiter.admitted)
}

// gated holds every Select until it is open.
type gated struct {
	storage.SampleAndChunkQueryable
	entered, open chan struct{}
}

func (g *gated) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := g.SampleAndChunkQueryable.Querier(mint, maxt)
	return gatedQuerier{q, g}, err
}

type gatedQuerier struct {
	storage.Querier
	g *gated
}

func (q gatedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	select {
	case q.g.entered <- struct{}{}:
	default:
	}
	select {
	case <-q.g.open:
	case <-ctx.Done():
		return storage.ErrSeriesSet(ctx.Err())
	}
	return q.Querier.Select(ctx, sorted, hints, ms...)
}

// TestAClientThatGoesAwayEndsItsQuery needs the context of the request to reach the storage.
func TestAClientThatGoesAwayEndsItsQuery(t *testing.T) {
	s := serve(t)
	gate := &gated{SampleAndChunkQueryable: s.store, entered: make(chan struct{}, 1), open: make(chan struct{})}
	var engine *Engine
	f := serveOver(t, s.store, func(o *Options) { o.Queryable, engine = gate, o.Engine })
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+"/api/v1/query?query=up", nil)
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := f.Client().Do(req)
		failed <- err
	}()
	<-gate.entered
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.Eventually(t, func() bool { return len(engine.limiter.admitted) == 0 }, time.Minute, time.Millisecond,
		"the query ends although the storage never answers")
}

func TestSecretsAreRedacted(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"db.uri", "postgres://u:p@h/d?sslmode=disable"}:       "postgres://u:<secret>@h/d?sslmode=disable",
		{"db.uri", "postgres://u:p%40w@h:5432/d"}:              "postgres://u:<secret>@h:5432/d",
		{"db.uri", "postgres://h/d?user=u&password=p&x=1"}:     "postgres://h/d?user=u&password=<secret>&x=1",
		{"db.uri", "host=h password='a b\\'c' user=u"}:         "host=h password=<secret> user=u",
		{"db.uri", "host=h sslpassword = x user=u password=y"}: "host=h sslpassword = <secret> user=u password=<secret>",
		{"db.uri", "postgres://u:a b%zz@h/d"}:                  "<secret>",
		{"db.uri", "postgres://u@h/d"}:                         "postgres://u@h/d",
		{"auth.token", "t"}:                                    "<secret>",
		{"auth.token-file", "/etc/t"}:                          "/etc/t",
		{"db.password", ""}:                                    "",
		{"storage.retention.time", "90d"}:                      "90d",
	} {
		require.Equal(t, want, redactFlags(map[string]string{in[0]: in[1]})[in[0]], "%v", in)
	}
}

func TestFeatures(t *testing.T) {
	var f Features
	require.NoError(t, f.EnableFeature("promql-experimental-functions"))
	require.NoError(t, f.EnableFeature("promql-delayed-name-removal"))
	require.Error(t, f.EnableFeature("promql-experimental-function"))
	require.True(t, f.Parser.EnableExperimentalFunctions)
	require.True(t, f.DelayedNameRemoval)
}
