package promql

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	keep "github.com/promkeep/promkeep/storage"
)

// TestMemoryCeiling asks the same with a ceiling that is far too low, and with one that is enough.
func TestMemoryCeiling(t *testing.T) {
	s := serve(t)
	var last *keep.Budget
	with := func(limit int64) *testServer {
		return serveOver(t, s.store, func(o *Options) {
			o.Budget = func(ctx context.Context) context.Context {
				last = keep.NewBudget("--query.max-memory", limit)
				return keep.WithBudget(ctx, last)
			}
		})
	}
	small, enough := with(1<<10), with(1<<20)
	window := "&start=" + unix(s.at(0)) + "&end=" + unix(s.at(samples-1))
	const says = "the query would hold more than 1KiB of packed rows and samples in memory (--query.max-memory)"
	for _, path := range []string{
		"/api/v1/query?query=up&time=" + unix(s.at(samples-1)),
		"/api/v1/query?query=requests_total[30m]&time=" + unix(s.at(samples/2)),
		"/api/v1/query_range?query=requests_total*2&step=60" + window,
		"/api/v1/query_range?query=sum(rate(requests_total[5m]))&step=60" + window, // a kernel
		"/api/v1/query_range?query=max_over_time(sum(up)[5m:1m])&step=60" + window,
		"/api/v1/series?match[]=up" + window,
	} {
		a := small.get(t, path)
		require.Equal(t, 422, a.code, "%s: %s", path, a.body)
		require.Equal(t, "execution", a.ErrorType, path)
		require.Contains(t, a.Error, says, path)
		require.Empty(t, a.header.Get("Retry-After"), path)
		require.Zero(t, last.Held(), "%s: all is given back", path)

		a = enough.get(t, path)
		require.Equal(t, 200, a.code, "%s: %s", path, a.body)
		require.Greater(t, len(a.Data), 60, path)
		require.Greater(t, last.Peak(), int64(1<<10), path)
		require.Zero(t, last.Held(), path)
	}
	a := small.get(t, "/federate?match[]={__name__=~\".%2b\"}")
	require.Equal(t, 422, a.code)
	require.Contains(t, a.body, says)
	up := labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")
	for name, typ := range responseTypes {
		_, err := remoteRead(t, small, "/read", typ, s.at(0), s.at(samples), up)
		require.ErrorContains(t, err, "422", name)
		require.ErrorContains(t, err, says, name)
		require.Zero(t, last.Held(), name)
		got, err := remoteRead(t, enough, "/read", typ, s.at(0), s.at(samples), up)
		require.NoError(t, err, name)
		require.Len(t, got, 3*samples, name)
	}
}

// TestMemoryOfAllQueries: what all queries hold together has a bound of its own. Past it they are told to come again, whatever each may hold, and
// can when the others have ended.
func TestMemoryOfAllQueries(t *testing.T) {
	s := serve(t)
	var budgets []*keep.Budget
	server := serveOver(t, s.store, func(o *Options) {
		o.Budget = func(ctx context.Context) context.Context {
			b := s.store.NewBudget("--query.max-memory", 1<<30).Within("--query.max-memory-total", 1<<20)
			budgets = append(budgets, b)
			return keep.WithBudget(ctx, b)
		}
	})
	window := "&start=" + unix(s.at(0)) + "&end=" + unix(s.at(samples-1))
	paths := []string{
		"/api/v1/query?query=requests_total[30m]&time=" + unix(s.at(samples/2)),
		"/api/v1/query_range?query=requests_total*2&step=60" + window,
		"/api/v1/query_range?query=sum(rate(requests_total[5m]))&step=60" + window, // a kernel
		"/api/v1/series?match[]=up" + window,
	}
	// Another query holds nearly all of it.
	other, err := s.store.Querier(s.at(0).UnixMilli(), s.at(samples).UnixMilli())
	require.NoError(t, err)
	hold := s.store.NewBudget("", 0)
	ctx := keep.WithBudget(context.Background(), hold)
	for hold.Held() < 1<<20-1<<10 {
		set := other.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		for set.Next() {
		}
		require.NoError(t, set.Err())
		require.Positive(t, hold.Held())
	}
	for _, path := range paths {
		a := server.get(t, path)
		require.Equal(t, 503, a.code, "%s: %s", path, a.body)
		require.Equal(t, "unavailable", a.ErrorType, path)
		require.Contains(t, a.Error, "the queries that run would hold more than 1MiB of packed rows and samples in memory (--query.max-memory-total)", path)
		require.NotEmpty(t, a.header.Get("Retry-After"), path)
	}
	require.NoError(t, other.Close())
	for _, path := range paths {
		a := server.get(t, path)
		require.Equal(t, 200, a.code, "%s: %s", path, a.body)
	}
	require.Len(t, budgets, 2*len(paths))
	for _, b := range budgets {
		require.Zero(t, b.Held())
	}
}

// TestAClientThatGoesAwayCancelsItsSQL has each kind of request wait in PostgreSQL, behind a lock, and looks there for what becomes
// of its statement when the client goes away, and when its timeout is over.
func TestAClientThatGoesAwayCancelsItsSQL(t *testing.T) {
	s := serve(t)
	pool := s.store.pg.Pool(t)
	ctx := context.Background()
	// waiting counts statements of promkeep that wait for a lock.
	waiting := func() (n int) {
		err := pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
		require.NoError(t, err)
		return n
	}
	window := url.Values{"start": {unix(s.at(0))}, "end": {unix(s.at(samples - 1))}, "step": {"60"}, "time": {unix(s.at(samples / 2))}}
	read := readRequest(t, prompb.ReadRequest_STREAMED_XOR_CHUNKS, &prompb.Query{
		StartTimestampMs: s.at(0).UnixMilli(), EndTimestampMs: s.at(samples).UnixMilli(),
		Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}},
	})
	for path, lock := range map[string]string{
		"/api/v1/query?query=up":                                "_promkeep.recent, _promkeep.chunk",
		"/api/v1/query_range?query=sum(rate(up[5m]))":           "_promkeep.recent, _promkeep.chunk",
		"/api/v1/series?match[]=up":                             "_promkeep.recent, _promkeep.chunk",
		"/api/v1/label/job/values?match[]=up":                   "_promkeep.series",
		"/api/v1/labels?match[]=up":                             "_promkeep.series",
		"/api/v1/read":                                          "_promkeep.recent, _promkeep.chunk",
		"/api/v1/query?query=up&timeout=3s":                     "_promkeep.recent, _promkeep.chunk",
		"/api/v1/query_range?query=sum(rate(up[5m]))&timeout=4": "_promkeep.recent, _promkeep.chunk",
	} {
		t.Run(path, func(t *testing.T) {
			holder, err := pool.Begin(ctx)
			require.NoError(t, err)
			defer holder.Rollback(ctx) //nolint:errcheck // It ends the lock.
			_, err = holder.Exec(ctx, "LOCK TABLE "+lock+" IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err)

			asking, goAway := context.WithCancel(ctx)
			defer goAway()
			method, target, body := http.MethodGet, s.URL+path+"&"+window.Encode(), ""
			if strings.HasSuffix(path, "/read") {
				method, target, body = http.MethodPost, s.URL+path, string(read)
			}
			req, err := http.NewRequestWithContext(asking, method, target, strings.NewReader(body))
			require.NoError(t, err)
			type outcome struct {
				code int
				err  error
			}
			done := make(chan outcome, 1)
			go func() {
				resp, err := s.Client().Do(req)
				if err != nil {
					done <- outcome{0, err}
					return
				}
				resp.Body.Close()
				done <- outcome{resp.StatusCode, nil}
			}()
			require.Eventually(t, func() bool { return waiting() > 0 }, time.Minute, 5*time.Millisecond, "the statement waits")
			if !strings.Contains(path, "timeout") {
				goAway()
				require.ErrorIs(t, (<-done).err, context.Canceled)
			} else {
				require.Equal(t, outcome{503, nil}, <-done)
			}
			require.Eventually(t, func() bool { return waiting() == 0 }, time.Minute, 5*time.Millisecond, "the statement is gone, the lock is not")
		})
	}
	require.Equal(t, 200, s.get(t, "/api/v1/query?query=up").code, "the connections are as good as new")
}

// TestLabelsNeverReadSamples asks for labels and their values while nobody can read a table of samples.
func TestLabelsNeverReadSamples(t *testing.T) {
	s := serve(t)
	ctx := context.Background()
	holder, err := s.store.pg.Pool(t).Begin(ctx)
	require.NoError(t, err)
	defer holder.Rollback(ctx) //nolint:errcheck // It ends the lock.
	_, err = holder.Exec(ctx, "LOCK TABLE _promkeep.recent, _promkeep.chunk IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	window := "start=" + unix(s.at(0)) + "&end=" + unix(s.at(samples/4)) + "&limit=10" // of which nothing is in memory but the series
	for path, want := range map[string]string{
		"/api/v1/labels?" + window:                                                `["__name__","cluster","code","http.status_code","instance","job"]`,
		"/api/v1/labels?match[]=up{job=\"node\"}&match[]=spans&" + window:         `["__name__","cluster","http.status_code","instance","job"]`,
		"/api/v1/label/instance/values?match[]=up{cluster=~\"b|c\"}&" + window:    `["one:9090","two:9100"]`,
		"/api/v1/label/__name__/values?match[]={cluster!=\"\"}&" + window:         `["requests_total","up"]`,
		"/api/v1/label/cluster/values?match[]={__name__=~\".*_total\"}&" + window: `["a","b"]`,
	} {
		a := s.get(t, strings.ReplaceAll(path, `"`, "%22"))
		require.Equal(t, 200, a.code, "%s: %s", path, a.body)
		require.JSONEq(t, want, string(a.Data), path)
	}
	require.Equal(t, 503, s.get(t, "/api/v1/query?query=up&timeout=100ms&time="+unix(s.at(samples/4))).code, "samples of then cannot be read")
}

// TestLookupsAndRemoteReadsHaveAnEnd: like queries, requests for series and labels, and remote reads, run up to a number at once, as many wait as may, and others
// are told to come again.
func TestLookupsAndRemoteReadsHaveAnEnd(t *testing.T) {
	s := serve(t)
	body := readRequest(t, prompb.ReadRequest_SAMPLES, &prompb.Query{
		StartTimestampMs: s.at(0).UnixMilli(), EndTimestampMs: s.at(samples).UnixMilli(),
		Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}},
	})
	for path, says := range map[string]string{
		"/api/v1/read":              "too many remote reads: 2 running and 1 waiting",
		"/api/v1/series?match[]=up": "too many lookups: 2 running and 1 waiting",
		"/federate?match[]=up":      "too many lookups: 2 running and 1 waiting",
	} {
		t.Run(path, func(t *testing.T) {
			gate := &gated{SampleAndChunkQueryable: s.store, entered: make(chan struct{}, 10), open: make(chan struct{})}
			engine := NewEngine(EngineOptions{MaxConcurrency: 2, MaxQueued: 1})
			t.Cleanup(func() { require.NoError(t, engine.Close()) })
			registry := prometheus.NewPedanticRegistry()
			f := serveOver(t, s.store, func(o *Options) {
				o.Queryable, o.Engine, o.ReadConcurrentLimit, o.Registerer, o.Gatherer = gate, engine, 2, registry, registry
			})
			ask := func() answer {
				if strings.HasSuffix(path, "/read") {
					return f.raw(t, "POST "+path+" HTTP/1.1", string(body))
				}
				return f.get(t, path)
			}
			codes := make(chan int, 3)
			for range 3 {
				go func() {
					var (
						resp *http.Response
						err  error
					)
					if strings.HasSuffix(path, "/read") {
						resp, err = f.Client().Post(f.URL+path, "application/x-protobuf", bytes.NewReader(body))
					} else {
						resp, err = f.Client().Get(f.URL + path)
					}
					if err != nil {
						codes <- 0
						return
					}
					resp.Body.Close()
					codes <- resp.StatusCode
				}()
			}
			<-gate.entered
			<-gate.entered
			waiting := func() float64 {
				families, err := registry.Gather()
				if err != nil {
					return -1
				}
				sum := 0.0
				for _, family := range families {
					if family.GetName() == "promkeep_read_waiting" {
						for _, m := range family.GetMetric() {
							sum += m.GetGauge().GetValue()
						}
					}
				}
				return sum
			}
			require.Eventually(t, func() bool { return waiting() == 1 }, time.Minute, time.Millisecond)
			a := ask()
			require.Equal(t, 503, a.code, a.body)
			require.Contains(t, a.body, says)
			require.NotEmpty(t, a.header.Get("Retry-After"))
			close(gate.open)
			for range 3 {
				require.Equal(t, 200, <-codes)
			}
			require.Equal(t, 200, ask().code)
		})
	}
}
