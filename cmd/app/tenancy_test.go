package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// ask sends a request with headers, given as names and values, and returns status and body.
func (p *process) ask(t testing.TB, method, path string, body []byte, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, p.url+path, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
	}
	return resp.StatusCode, string(text)
}

func encode(t testing.TB, series ...prompb.TimeSeries) []byte {
	t.Helper()
	raw, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, raw)
}

// readRequest is a remote read of all series.
func readRequest(t testing.TB, from, to time.Time) []byte {
	t.Helper()
	raw, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: from.UnixMilli(), EndTimestampMs: to.UnixMilli(),
		Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "__name__", Value: ".+"}}}}}).Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, raw)
}

// TestLaw9Tenants: what one tenant wrote is in no answer to another, on any path, from memory and from the database; several are
// read together, and told apart; without a tenant nothing is written or read.
func TestLaw9Tenants(t *testing.T) {
	t.Parallel()
	dir, port := dataDir(t), freePort(t)
	args := []string{"--data-dir", dir, "--tenancy.enabled", "--storage.flush-interval", "1s", "--storage.head.cache-size", "1B"}
	p := start(t, port, nil, args...).ready(t)
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	send := func() {
		t.Helper()
		for i, tenant := range []string{"a", "b", "c"} {
			var samples []prompb.Sample
			for k := range 30 {
				samples = append(samples, prompb.Sample{Timestamp: at.Add(time.Duration(k-30) * 15 * time.Second).UnixMilli(), Value: float64((i + 1) * k)})
			}
			shared := timeSeries(samples, "__name__", "shared_total", "job", "x")
			own := timeSeries(samples, "__name__", "only_"+tenant, "own_"+tenant, "secret-of-"+tenant)
			own.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "trace-of-" + tenant}}, Value: 1, Timestamp: samples[29].Timestamp}}
			code, body := p.ask(t, "POST", "/api/v1/push", encode(t, shared, own), "X-Scope-OrgID", tenant)
			require.Equal(t, 204, code, body)
			raw, err := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "only_" + tenant, Help: "help-of-" + tenant}}}).Marshal()
			require.NoError(t, err)
			code, body = p.ask(t, "POST", "/api/v1/write", snappy.Encode(nil, raw), "X-Scope-OrgID", tenant)
			require.Equal(t, 204, code, body)
		}
	}
	send()
	code, _ := p.ask(t, "POST", "/api/v1/write", encode(t, timeSeries([]prompb.Sample{{Timestamp: at.UnixMilli()}}, "__name__", "x")))
	require.Equal(t, 401, code)
	code, _ = p.ask(t, "POST", "/api/v1/write", encode(t, timeSeries([]prompb.Sample{{Timestamp: at.UnixMilli()}}, "__name__", "x")), "X-Scope-OrgID", "a|b")
	require.Equal(t, 400, code)

	from, to := at.Add(-time.Hour), at.Add(time.Minute)
	times := "start=" + seconds(from) + "&end=" + seconds(to)
	everything := url.QueryEscape(`{__name__=~".+"}`)
	paths := []string{
		"/api/v1/query?query=" + everything + "&time=" + seconds(at),
		"/api/v1/query_range?query=" + url.QueryEscape(`sum by (__name__, job, own_a, own_b, own_c) (rate({__name__=~".+"}[5m]))`) + "&step=15&" + times,
		"/api/v1/query_range?query=" + everything + "&step=15&" + times,
		"/api/v1/query_exemplars?query=" + everything + "&" + times,
		"/api/v1/series?match[]=" + everything + "&" + times,
		"/api/v1/labels?" + times,
		"/api/v1/label/__name__/values?" + times,
		"/api/v1/label/own_a/values?" + times,
		"/api/v1/label/__tenant_id__/values?" + times,
		"/api/v1/metadata",
		"/federate?match[]=" + everything,
		"POST /api/v1/read", "POST /read",
		"/api/v1/status/tsdb",
	}
	traces := func(tenant string) []string {
		return []string{"only_" + tenant, "own_" + tenant, "secret-of-" + tenant, "trace-of-" + tenant, "help-of-" + tenant, `"` + tenant + `"`}
	}
	for _, stage := range []string{"in memory", "in the database", "after a restart"} {
		switch stage {
		case "in the database":
			require.Eventually(t, func() bool {
				resp, err := http.Get(p.url + "/metrics")
				require.NoError(t, err)
				defer resp.Body.Close()
				_, inMemory := p.ask(t, "GET", "/api/v1/status/tsdb", nil, "X-Scope-OrgID", "a|b|c")
				return metric(t, resp.Body, "promkeep_flush_samples_total") >= 180 && strings.Contains(inMemory, `"numSeries":0,`)
			}, time.Minute, 100*time.Millisecond)
		case "after a restart":
			p.stop(t)
			p = start(t, port, nil, args...).ready(t)
		}
		// What queries make of the label, with and without kernels.
		for query, want := range map[string]string{
			`sum by (__tenant_id__) (max_over_time(shared_total[20m]))`:                                    "a:29 b:58",
			`sum(max_over_time(shared_total[20m]))`:                                                        ":87",
			`max_over_time(shared_total{__tenant_id__="b"}[20m])`:                                          "b:58",
			`count by (__tenant_id__) ({__name__=~".+"})`:                                                  "a:2 b:2",
			`shared_total{__tenant_id__=~"a|c"} - ignoring(__tenant_id__) shared_total{__tenant_id__="b"}`: ":-29",
		} {
			for _, kind := range []string{"query", "query_range"} {
				values := url.Values{"query": {query}, "time": {seconds(at)}, "start": {seconds(at)}, "end": {seconds(at)}, "step": {"15"}}
				code, text := p.ask(t, "GET", "/api/v1/"+kind+"?"+values.Encode(), nil, "X-Scope-OrgID", "a|b")
				require.Equal(t, 200, code, text)
				var answer struct {
					Data struct {
						Result []struct {
							Metric map[string]string
							Value  [2]any
							Values [][2]any
						}
					}
				}
				require.NoError(t, json.Unmarshal([]byte(text), &answer))
				got := map[string]string{}
				for _, r := range answer.Data.Result {
					v := r.Value
					if kind == "query_range" {
						v = r.Values[0]
					}
					got[r.Metric["__tenant_id__"]] = v[1].(string)
				}
				var list []string
				for _, tenant := range []string{"", "a", "b", "c"} {
					if v, ok := got[tenant]; ok {
						list = append(list, tenant+":"+v)
					}
				}
				require.Equal(t, want, strings.Join(list, " "), "%s: %s as %s: %s", stage, query, kind, text)
			}
		}
		for _, path := range paths {
			method, body := "GET", []byte(nil)
			if rest, ok := strings.CutPrefix(path, "POST "); ok {
				method, path, body = "POST", rest, readRequest(t, from, to)
			}
			name := stage + " " + path
			ask := func(tenant string) string {
				t.Helper()
				code, text := p.ask(t, method, path, body, "X-Scope-OrgID", tenant)
				require.Equal(t, 200, code, "%s: %s", name, text)
				if method == "POST" {
					raw, err := snappy.Decode(nil, []byte(text))
					require.NoError(t, err)
					text = string(raw)
				}
				return text
			}
			code, text := p.ask(t, method, path, body)
			require.Equal(t, 401, code, "%s: %s", name, text)
			require.Contains(t, text, "X-Scope-OrgID")
			code, text = p.ask(t, method, path, body, "X-Scope-OrgID", "a/b")
			require.Equal(t, 400, code, "%s: %s", name, text)

			a, both, unknown := ask("a"), ask("b|a"), ask("nobody")
			if path == "/api/v1/status/tsdb" {
				// It is about the series in memory, which these leave with a flush or the one after it: until they are seen they come back with what
				// they have already.
				require.Eventually(t, func() bool {
					if strings.Contains(a, `"numSeries":2,`) && strings.Contains(both, `"numSeries":4,`) {
						return true
					}
					send()
					a, both, unknown = ask("a"), ask("b|a"), ask("nobody")
					return false
				}, time.Minute, 10*time.Millisecond, "%s: %s", name, both)
			}
			if path != "/api/v1/status/tsdb" { // whose counts that are the same are in no order
				require.Equal(t, a, ask("a|a"), "%s: several times the same", name)
			}
			for _, text := range append(traces("b"), traces("c")...) {
				require.NotContains(t, a, text, name)
			}
			for _, text := range append(append(traces("a"), traces("b")...), traces("c")...) {
				require.NotContains(t, unknown, text, name)
			}
			for _, text := range traces("c") {
				require.NotContains(t, both, text, name)
			}
			if path == "/api/v1/label/own_a/values?"+times {
				require.Equal(t, a, both)
				continue
			}
			found := 0
			for _, text := range append(traces("a"), traces("b")...) {
				if strings.Contains(both, text) {
					found++
				}
			}
			require.GreaterOrEqual(t, found, 2, "%s: %s", name, both)
			if path != "/api/v1/label/__tenant_id__/values?"+times {
				require.True(t, strings.Contains(a, "only_a") || strings.Contains(a, "own_a"), "%s: %s", name, a)
				require.NotContains(t, a, "__tenant_id__", name)
			}
		}
	}
	// The limit of tenants at once, and what needs none.
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprint("t", i))
	}
	code, text := p.ask(t, "GET", "/api/v1/labels", nil, "X-Scope-OrgID", strings.Join(many, "|"))
	require.Equal(t, 422, code, text)
	require.Contains(t, text, `"status":"error"`)
	require.Contains(t, text, "33 tenants, the limit is 32")
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics"} {
		code, _ := p.ask(t, "GET", path, nil)
		require.Equal(t, 200, code, path)
	}
	code, _ = p.ask(t, "OPTIONS", "/api/v1/query", nil, "Origin", "http://grafana")
	require.Less(t, code, 300)
}

// TestTenantIsTheUser: with basic auth the tenant is who showed the password, and nobody else can be named.
func TestTenantIsTheUser(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yml")
	hashes := map[string]string{ // bcrypt of "password of " and the user
		"a":   "$2a$04$gTL7FtinRdY6rLes.4X3eOpByL07pCST61WCMfYF/DyYtaK7VaRm2",
		"b":   "$2a$04$zpmHdR3qJa7T4x648jiG2eerZDrpvcYHcsM30BxSGhBtOvAWN9E3a",
		"b/c": "$2a$04$zpmHdR3qJa7T4x648jiG2eerZDrpvcYHcsM30BxSGhBtOvAWN9E3a",
	}
	config := func(users ...string) {
		text := "basic_auth_users:\n"
		for _, u := range users {
			text += "  " + u + ": " + hashes[u] + "\n"
		}
		if len(users) == 0 {
			text = "http_server_config:\n  http2: true\n"
		}
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	flags := []string{"serve", "--web.listen-address", "127.0.0.1:0", "--tenancy.from-basic-auth", "--data-dir", dataDir(t)}
	require.Contains(t, fails(t, nil, flags...), "--web.config.file is not given")
	config()
	require.Contains(t, fails(t, nil, append(flags, "--web.config.file", file)...), "has no basic_auth_users")
	config("a", "b/c")
	require.Contains(t, fails(t, nil, append(flags, "--web.config.file", file)...), "is no tenant")

	config("a", "b")
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t), "--web.config.file", file, "--tenancy.from-basic-auth")
	basic := func(user, password string) string {
		r, _ := http.NewRequest("GET", "http://x", nil)
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	a, b := basic("a", "password of a"), basic("b", "password of b")
	require.Eventually(t, func() bool {
		r, err := http.NewRequest("GET", p.url+"/-/ready", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", a)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}, time.Minute, 20*time.Millisecond)
	body := encode(t, timeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}, "__name__", "mine"))
	labelsOf := func(headers ...string) (int, string) {
		return p.ask(t, "GET", "/api/v1/label/__name__/values", nil, headers...)
	}
	for want, headers := range map[int][][]string{
		204: {{"Authorization", a}, {"Authorization", a, "X-Scope-OrgID", "a"}},
		401: {{}, {"X-Scope-OrgID", "a"}, {"Authorization", basic("a", "wrong")}, {"Authorization", basic("c", "password of c")}},
		403: {{"Authorization", a, "X-Scope-OrgID", "b"}, {"Authorization", a, "X-Scope-OrgID", "a|b"}},
	} {
		for _, h := range headers {
			code, text := p.ask(t, "POST", "/api/v1/write", body, h...)
			require.Equal(t, want, code, "%v: %s", h, text)
			code, text = labelsOf(h...)
			require.Equal(t, max(want, 200)/100, code/100, "%v: %s", h, text)
		}
	}
	_, text := labelsOf("Authorization", a)
	require.Contains(t, text, "mine")
	_, text = labelsOf("Authorization", b)
	require.NotContains(t, text, "mine")

	// When the file loses its users, or this one, the server verifies nobody: then nobody is a tenant.
	config()
	code, text := labelsOf("Authorization", basic("a", "wrong"))
	require.Equal(t, 401, code, text)
	config("b")
	code, _ = labelsOf("Authorization", a)
	require.Equal(t, 401, code)
	code, _ = labelsOf("Authorization", b)
	require.Equal(t, 200, code)
}

// TestWithoutTenancy: the header means nothing, as in Prometheus.
func TestWithoutTenancy(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t)).ready(t)
	body := encode(t, timeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}, "__name__", "mine"))
	for _, tenant := range []string{"a", "a|b", "not a name"} {
		code, text := p.ask(t, "POST", "/api/v1/write", body, "X-Scope-OrgID", tenant)
		require.Equal(t, 204, code, text)
		code, text = p.ask(t, "GET", "/api/v1/labels", nil, "X-Scope-OrgID", tenant)
		require.Equal(t, 200, code)
		require.JSONEq(t, `{"status":"success","data":["__name__"]}`, text)
	}
}

// TestTenantLimits: limits by flags, others for some tenants by file, which is read again on SIGHUP, and stays as it was when it
// is not good.
func TestTenantLimits(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "limits.yml")
	put := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	flags := []string{"--tenancy.enabled", "--limits.file", file, "--limits.samples-per-second", "0.001", "--limits.samples-burst", "100", "--limits.active-series", "10"}
	for text, says := range map[string]string{
		"overrides: {a: {samples: 1}}":               "field samples not found",
		"overrides: {a: {active_series: -1}}":        "not negative",
		"overrides: {a/b: {active_series: 1}}":       "is not allowed",
		"overrides: {a: {active_series: many}}":      "cannot unmarshal",
		"overrides: {a: {}, a: {}}":                  "already set",
		"overrides: {a: {samples_burst: .inf}}":      "cannot unmarshal",
		"overrides: {a: {samples_per_second: .nan}}": "not negative",
	} {
		put(text)
		out := fails(t, nil, append([]string{"serve", "--web.listen-address", "127.0.0.1:0", "--data-dir", dataDir(t)}, flags...)...)
		require.Contains(t, out, "--limits.file")
		require.Contains(t, out, says)
	}
	put("overrides:\n  large:\n    active_series: 20\n    samples_burst: 1000\n  free:\n    samples_per_second: 0\n    active_series: 0\n")
	p := start(t, freePort(t), nil, append([]string{"--data-dir", dataDir(t)}, flags...)...).ready(t)
	now := time.Now().UnixMilli()
	send := func(tenant, name string, n int) (int, string) {
		var all []prompb.TimeSeries
		for i := range n {
			all = append(all, timeSeries([]prompb.Sample{{Timestamp: now, Value: 1}}, "__name__", name, "i", fmt.Sprint(i)))
		}
		return p.ask(t, "POST", "/api/v1/write", encode(t, all...), "X-Scope-OrgID", tenant)
	}
	expect := func(tenant string, n, want int, text string) {
		t.Helper()
		code, body := send(tenant, "s", n)
		require.Equal(t, want, code, body)
		require.Contains(t, body, text)
	}
	expect("small", 10, 204, "")
	expect("small", 11, 400, "active_series: 10")
	expect("small", 100, 429, "samples_per_second: 0.001 (samples_burst: 100)")
	expect("large", 30, 400, "active_series: 20")
	expect("large", 800, 400, "active_series: 20")
	expect("large", 800, 429, "samples_per_second: 0.001 (samples_burst: 1000)")
	for range 3 {
		expect("free", 500, 204, "")
	}
	log := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(p.log.String(), text) }, time.Minute, 10*time.Millisecond)
	}
	put("overrides: [")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	log("the limits stay as they are")
	expect("free", 500, 204, "")
	gauge := func() float64 {
		resp, err := http.Get(p.url + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		return metric(t, resp.Body, "promkeep_limits_last_reload_successful")
	}
	require.Zero(t, gauge())
	put("overrides: {small: {active_series: 15, samples_per_second: 0}}")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	log("the limits were read again")
	require.EqualValues(t, 1, gauge())
	expect("small", 16, 400, "active_series: 15")
	expect("free", 500, 204, "") // larger than the burst, which is still there
	expect("free", 1, 429, "samples_burst: 100")
	for _, q := range []struct {
		tenant string
		n      int
	}{{"small", 15}, {"large", 20}, {"free", 500}} {
		_, text := p.ask(t, "GET", "/api/v1/query?query=count(s)", nil, "X-Scope-OrgID", q.tenant)
		require.Contains(t, text, fmt.Sprintf(`"%d"]`, q.n), "%s: %s", q.tenant, text)
	}
}
