package adapter_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// clock is a time that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// of returns n samples of one series, ending at base.
func of(n int, names ...string) prompb.TimeSeries {
	ts := series(names...)
	ts.Samples = nil
	for i := range n {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: base - int64(n-1-i), Value: float64(i)})
	}
	return ts
}

// TestRateLimit: each tenant has its own rate, what is beyond it is refused whole, with the time to come again, and passes then.
func TestRateLimit(t *testing.T) {
	c := newClock()
	limits := map[string]adapter.TenantLimits{
		"slow":   {SamplesPerSecond: 100, SamplesBurst: 300},
		"slower": {SamplesPerSecond: 10},
	}
	b := newBundle(t, adapter.Options{Tenancy: &tenancy.Policy{Header: tenancy.DefaultHeader}, Now: c.now,
		TenantLimits: func(tenant string) adapter.TenantLimits { return limits[tenant] }})
	send := func(tenant string, req *prompb.WriteRequest) answer {
		return b.post(t, compress(t, req), "X-Scope-OrgID", tenant)
	}
	refused := func(a answer, text string, least int) {
		t.Helper()
		requireRetry(t, a, 429, text)
		seconds := 0
		fmt.Sscan(a.header.Get("Retry-After"), &seconds)
		require.GreaterOrEqual(t, seconds, least)
		require.LessOrEqual(t, seconds, 2*least+1)
	}
	for range 3 {
		require.Equal(t, 204, send("slow", requestOf(of(100, "__name__", "a"))).code)
	}
	refused(send("slow", requestOf(of(1, "__name__", "b"))), `the tenant "slow" sends more than its limit samples_per_second: 100 (samples_burst: 300)`, 1)
	require.Equal(t, 204, send("free", requestOf(of(5000, "__name__", "a"))).code, "of a tenant without a limit")
	require.Equal(t, 204, send("slower", requestOf(of(100, "__name__", "a"))).code, "the burst is ten seconds by default")
	require.Empty(t, b.read(t, "slow", matching("b")), "something refused was stored")

	c.advance(500 * time.Millisecond) // makes 50 tokens
	refused(send("slow", requestOf(of(51, "__name__", "b"))), "samples_per_second: 100", 1)
	require.Equal(t, 204, send("slow", requestOf(of(50, "__name__", "b"))).code, "a refused request takes nothing")
	require.Len(t, b.read(t, "slow", matching("b")), 50)

	// What can never pass within the burst passes when the bucket is full, and has to be paid for.
	large := requestOf(of(900, "__name__", "c"))
	c.advance(time.Second)
	refused(send("slow", large), "samples_per_second: 100", 2)
	c.advance(2 * time.Second)
	require.Equal(t, 204, send("slow", large).code)
	refused(send("slow", requestOf(of(1, "__name__", "d"))), "samples_per_second: 100", 7)
	c.advance(6*time.Second + 20*time.Millisecond)
	require.Equal(t, 204, send("slow", requestOf(of(1, "__name__", "d"))).code)

	// Exemplars count; invalid samples and such a request do not.
	c.advance(time.Minute)
	bad := requestOf(of(1000, "job", "no name"))
	require.Equal(t, 400, send("slow", bad).code)
	withExemplars := of(1, "__name__", "e")
	for range 300 {
		withExemplars.Exemplars = append(withExemplars.Exemplars, prompb.Exemplar{Timestamp: base, Value: 1})
	}
	require.Equal(t, 204, send("slow", requestOf(withExemplars)).code)
	refused(send("slow", requestOf(of(100, "__name__", "e"))), "samples_per_second", 2-1)

	// A change of the limit counts at once.
	limits["slow"] = adapter.TenantLimits{}
	require.Equal(t, 204, send("slow", requestOf(of(5000, "__name__", "e"))).code)
	limits["slow"] = adapter.TenantLimits{SamplesPerSecond: 1, SamplesBurst: 1}
	c.advance(time.Minute)
	require.Equal(t, 204, send("slow", requestOf(of(1, "__name__", "e"))).code)
	refused(send("slow", requestOf(of(1, "__name__", "e"))), "samples_per_second: 1 (samples_burst: 1)", 1)

	require.EqualValues(t, 6, b.metric(t, "promkeep_remote_write_tenant_limited_requests_total", "slow", "samples_per_second"))
	require.EqualValues(t, 6, b.metric(t, "promkeep_remote_write_rejected_requests_total", "rate_limit"))
	require.EqualValues(t, 6, b.metric(t, "promkeep_remote_write_requests_total", "1.0", "429"))
	require.EqualValues(t, 1000, b.metric(t, "promkeep_remote_write_rejected_samples_total", "no_metric_name"))
}

// TestRateIsNotTakenByWhatFails: a request that the store could not take does not count.
func TestRateIsNotTakenByWhatFails(t *testing.T) {
	server := pgtest.NewServer(t)
	c := newClock()
	b := setup(t, server.NewDB(t).URI, adapter.Options{Now: c.now, TenantLimits: func(tenant string) adapter.TenantLimits {
		require.Equal(t, "default", tenant)
		return adapter.TenantLimits{SamplesPerSecond: 1e-6, SamplesBurst: 150}
	}})
	req := requestOf(of(100, "__name__", "a"))
	server.Stop(t)
	for range 5 {
		requireRetry(t, b.writeV1(t, req), 503, "database is unavailable")
	}
	server.Start(t)
	require.Eventually(t, func() bool { return b.writeV1(t, req).code == 204 }, time.Minute, 50*time.Millisecond)
	require.Equal(t, 429, b.writeV1(t, req).code)
}

// TestSeriesLimit: of a request that would make more series than the tenant may have, the samples of those it has are stored,
// and of as many new ones as there is room for, whatever they are called by and wherever they come from.
func TestSeriesLimit(t *testing.T) {
	uri := pgtest.New(t).URI
	limits := map[string]adapter.TenantLimits{"small": {ActiveSeries: 5}}
	options := adapter.Options{Tenancy: &tenancy.Policy{Header: tenancy.DefaultHeader},
		TenantLimits: func(tenant string) adapter.TenantLimits { return limits[tenant] }}
	b := setup(t, uri, options)
	send := func(tenant string, all ...prompb.TimeSeries) answer {
		return b.post(t, compress(t, requestOf(all...)), "X-Scope-OrgID", tenant)
	}
	stored := func(tenant string) int { return len(b.read(t, tenant, matching(".+"))) }
	var all []prompb.TimeSeries
	for i := range 8 {
		all = append(all, series("__name__", "s", "i", fmt.Sprint(i)))
	}
	require.Equal(t, 204, send("small", all[:4]...).code)
	a := send("small", all...)
	require.Equal(t, 400, a.code)
	require.True(t, strings.HasPrefix(a.body, "3 of 8 samples and exemplars were refused, the rest was stored; first problem: "), a.body)
	require.Contains(t, a.body, `{__name__="s", i="5"}: the tenant "small" has as many series as its limit active_series: 5`)
	require.Equal(t, 5, stored("small"))
	require.EqualValues(t, 3, b.metric(t, "promkeep_remote_write_rejected_samples_total", "series_limit"))
	require.EqualValues(t, 1, b.metric(t, "promkeep_remote_write_tenant_limited_requests_total", "small", "active_series"))

	// Those it has, spelt in another way.
	for i := range 5 {
		respelt := series("i", fmt.Sprint(i), "empty", "", "__name__", "s")
		respelt.Samples[0].Timestamp += 1000
		a := send("small", respelt)
		require.Equal(t, 204, a.code, a.body)
	}
	require.Equal(t, 10, stored("small"))
	require.Equal(t, 204, send("other", all...).code, "the limit is of each tenant")
	require.Equal(t, 8, stored("other"))

	// All kinds of samples, and what a sender of 2.0 is told.
	st := writev2.NewSymbolTable()
	refs := func(name, i string) []uint32 {
		return st.SymbolizeLabels(labels.FromStrings("__name__", name, "i", i), nil)
	}
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{
		{LabelsRefs: refs("s", "0"), Samples: []writev2.Sample{{Timestamp: base + 2000, Value: 1, StartTimestamp: base}}},
		{LabelsRefs: refs("new", "1"), Samples: []writev2.Sample{{Timestamp: base + 2000, Value: 2, StartTimestamp: base}, {Timestamp: base + 3000, Value: 3}}},
		{LabelsRefs: refs("new", "2"), Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, base, tsdbutil.GenerateTestHistogram(1))}},
		{LabelsRefs: refs("s", "1"), Samples: []writev2.Sample{{Timestamp: base + 2000, Value: 4, StartTimestamp: base + 1}}},
		{LabelsRefs: refs("new", "3"), Exemplars: []writev2.Exemplar{{Timestamp: base, Value: 1, LabelsRefs: refs("x", "y")}}},
		{LabelsRefs: refs("new", "1"), Samples: []writev2.Sample{{Timestamp: base + 4000, Value: 5}}},
	}}
	req.Symbols = st.Symbols()
	a = b.post(t, compress(t, req), "X-Scope-OrgID", "small", "Content-Type", typeV2)
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "5 of 7 samples and exemplars were refused")
	require.Equal(t, "2", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Histograms-Written"))
	require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"))
	require.Equal(t, []string{
		floatLine(labels.FromStrings("__name__", "s", "i", "0"), base, 1), floatLine(labels.FromStrings("__name__", "s", "i", "0"), base+1000, 1),
		floatLine(labels.FromStrings("__name__", "s", "i", "0"), base+2000, 1),
	}, b.read(t, "small", labels.MustNewMatcher(labels.MatchEqual, "i", "0")))
	require.Empty(t, b.read(t, "small", matching("new")))

	// All refused: there is nothing to commit. And many at once are named only in part.
	var storm []prompb.TimeSeries
	for i := range 3000 {
		storm = append(storm, series("__name__", "storm", "i", fmt.Sprint(i)))
	}
	a = send("small", storm...)
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "3000 of 3000 samples")
	require.Contains(t, a.body, "and 2990 more problems")

	// After a restart the limit holds for what there is, and once there is none it takes as many as it says.
	b.server.Close()
	require.NoError(t, b.db.Close())
	again := setup(t, uri, options)
	a = again.post(t, compress(t, requestOf(all...)), "X-Scope-OrgID", "small")
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "3 of 8 samples")
	limits["small"] = adapter.TenantLimits{ActiveSeries: 7}
	a = again.post(t, compress(t, requestOf(all...)), "X-Scope-OrgID", "small")
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "1 of 8 samples")
	limits["small"] = adapter.TenantLimits{}
	require.Equal(t, 204, again.post(t, compress(t, requestOf(all...)), "X-Scope-OrgID", "small").code)
}

// TestSeriesLimitOfMany: requests that come at the same time do not get past the limit together.
func TestSeriesLimitOfMany(t *testing.T) {
	b := newBundle(t, adapter.Options{TenantLimits: func(string) adapter.TenantLimits { return adapter.TenantLimits{ActiveSeries: 100} }})
	const senders = 8
	codes := make(chan int, senders)
	for s := range senders {
		go func() {
			var all []prompb.TimeSeries
			for i := range 50 {
				all = append(all, series("__name__", "s", "i", fmt.Sprint(i), "s", fmt.Sprint(s)))
			}
			code := 0 // when it fails
			defer func() { codes <- code }()
			code = b.writeV1(t, requestOf(all...)).code
		}()
	}
	good := 0
	for range senders {
		if code := <-codes; code == 204 {
			good++
		} else {
			require.Equal(t, 400, code)
		}
	}
	require.Len(t, b.read(t, "", matching("s")), 100)
	require.LessOrEqual(t, good, 2)
	require.EqualValues(t, senders*50-100, b.metric(t, "promkeep_remote_write_rejected_samples_total", "series_limit"))
}

// TestTenantsAreBounded: not every name in a header becomes a tenant, however many requests come together; those there are write on.
func TestTenantsAreBounded(t *testing.T) {
	const limit, names = 5, 20
	b := setupStore(t, storage.Config{URI: pgtest.New(t).URI, MaxTenants: limit}, adapter.Options{Tenancy: &tenancy.Policy{Header: tenancy.DefaultHeader}})
	body := compress(t, requestOf(series("__name__", "a")))
	answers := make([]answer, names)
	var group sync.WaitGroup
	for i := range names {
		group.Go(func() { answers[i] = b.post(t, body, "X-Scope-OrgID", fmt.Sprint("t", i)) })
	}
	group.Wait()
	good := 0
	for i, a := range answers {
		if a.code == 204 {
			good++
			require.Equal(t, 204, b.post(t, body, "X-Scope-OrgID", fmt.Sprint("t", i)).code)
			continue
		}
		require.Equal(t, 429, a.code, a.body)
		require.Contains(t, a.body, "max_tenants: 5")
		require.NotEmpty(t, a.header.Get("Retry-After"))
	}
	require.Equal(t, limit, good)
	require.EqualValues(t, names-limit, b.metric(t, "promkeep_remote_write_rejected_requests_total", "limit"))
}

// TestTenantMetricsAreBounded: a flood of tenants does not make as many series of promkeep's own.
func TestTenantMetricsAreBounded(t *testing.T) {
	b := newBundle(t, adapter.Options{Tenancy: &tenancy.Policy{Header: tenancy.DefaultHeader}, TenantLimits: func(string) adapter.TenantLimits {
		return adapter.TenantLimits{SamplesPerSecond: math.SmallestNonzeroFloat64}
	}})
	body := compress(t, requestOf(series("__name__", "a")))
	for i := range 600 {
		for _, code := range []int{204, 429} {
			a := b.post(t, body, "X-Scope-OrgID", fmt.Sprint("t", i))
			require.Equal(t, code, a.code, a.body)
		}
	}
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "promkeep_remote_write_tenant_limited_requests_total" {
			require.Len(t, f.GetMetric(), storage.MaxTenantLabels+2, "so many tenants, and both limits of all others")
		}
	}
	require.EqualValues(t, 100, b.metric(t, "promkeep_remote_write_tenant_limited_requests_total", "<other>", "samples_per_second"))
}
