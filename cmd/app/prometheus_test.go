package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// prometheus runs Debian's Prometheus with a configuration, and returns its URL.
func prometheus(t *testing.T, config string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	require.NoError(t, err, "Prometheus is not installed: run make deps-test")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o644))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(program, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address, "--log.level", "warn")
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		// It would wait a minute for whom it writes to.
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	base := "http://" + address
	require.Eventually(t, func() bool {
		resp, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 2*time.Minute, 20*time.Millisecond, "Prometheus does not start: %s", log)
	return base
}

// TestLaw5ExactlyPromQLAsARealPrometheusAnswers: a real Prometheus scrapes a program and promkeep every quarter of a second and
// writes to promkeep, one of its targets vanishing on the way, so that there are stale markers. Every query has the same
// answer from both: while the samples are in the head, when they are flushed, and after a restart.
func TestLaw5ExactlyPromQLAsARealPrometheusAnswers(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	port := freePort(t)
	args := []string{"--data-dir", dir, "--storage.flush-interval", "3s"}
	p := start(t, port, nil, args...).ready(t)

	target := http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := time.Now().UnixMilli()
		// Each is reset to less than half of what it was, and far from zero for what it grows by from scrape to scrape: where few samples lie in a
		// range, older engines extrapolate otherwise to where a counter would be zero, and a reset counts as growth by all that it is afterwards.
		fmt.Fprintf(w, "# TYPE work_done_total counter\nwork_done_total{kind=\"a\"} %d\nwork_done_total{kind=\"b\"} %d.25\n", 20_000+n%100_000, 3_000+n%7_000)
		fmt.Fprintf(w, "# TYPE odd gauge\nodd{is=\"nan\"} NaN\nodd{is=\"inf\"} +Inf\nodd{is=\"tiny\"} 4.9e-324\nodd{is=\"third\"} 0.3333333333333333\n")
		if n/1000%4 < 2 {
			fmt.Fprintf(w, "comes_and_goes 1\n")
		}
	})}
	go target.ListenAndServe()
	t.Cleanup(func() { target.Close() })

	prom := prometheus(t, fmt.Sprintf(`
global:
  scrape_interval: 250ms
  scrape_timeout: 250ms
remote_write:
  - url: %s/api/v1/write
    queue_config: {batch_send_deadline: 200ms, min_backoff: 20ms, max_backoff: 200ms}
scrape_configs:
  - job_name: promkeep
    static_configs: [{targets: ["%s"]}]
  - job_name: work
    static_configs: [{targets: ["%s"]}]
`, p.url, p.url[len("http://"):], target.Addr))
	// Prometheus scrapes first five seconds after it was started, or later: until its discovery has told it what to. Ranges that end before that
	// are of no use, and labels of them differ, since promkeep answers by the hour what is no longer in memory.
	var first time.Time
	require.Eventually(t, func() bool {
		oldest, found := instant(t, prom, `min(timestamp({job="work", __name__=~"up|work_done_total"}))`)
		both, _ := instant(t, prom, `count(up == 1)`)
		first = time.UnixMilli(int64(oldest * 1000))
		return found && both == 2
	}, time.Minute, 20*time.Millisecond, "Prometheus does not scrape")
	time.Sleep(6 * time.Second)
	target.Close()
	time.Sleep(2 * time.Second)

	ends := quietEnds(t, prom, time.Now().Add(-time.Second))
	require.Greater(t, ends[1].Sub(first), time.Second, "samples before either end")
	// The scrapes of a target follow each other, so of those before the end none is still to come. What they brought travels in several queues, of
	// which one may lag behind: all of it has to be there.
	arrived := func(base string) string {
		n := 0
		for _, samples := range matrix(t, base, `{__name__=~".+"}[20s]`, ends[0]) {
			n += len(samples)
		}
		// Stale markers are in no range: without them a series would still be there.
		there := get(t, base, "/api/v1/query", url.Values{"query": {`count({__name__=~".+"})`}, "time": {seconds(ends[0])}})
		return fmt.Sprint(n, " ", sorted(t, there))
	}
	require.Eventually(t, func() bool {
		oldest, found := instant(t, prom, "min(timestamp(up))")
		return found && time.UnixMilli(int64(oldest*1000)).After(ends[0]) && arrived(p.url) == arrived(prom)
	}, 2*time.Minute, 50*time.Millisecond, "the samples do not arrive")

	// Older engines extrapolate counters that began near zero otherwise, and average in another order: neither is asked.
	queries := []string{
		`up`, `count({__name__=~".+"})`, `count by (__name__) ({__name__=~".+"})`, `work_done_total`, `odd`, `comes_and_goes`,
		`rate(work_done_total[5s])`, `sum by (job) (rate(process_start_time_seconds[5s]))`, `increase(work_done_total{kind="a"}[7s])`,
		`max_over_time(work_done_total[6s])`, `quantile_over_time(0.5, work_done_total[6s])`, `changes(work_done_total[6s])`, `resets(work_done_total[6s])`,
		`histogram_quantile(0.9, promkeep_log_commit_duration_seconds_bucket)`,
		`topk(3, count by (__name__) ({job="promkeep"}))`, `go_goroutines{job="promkeep"} / on (job) group_left go_threads`,
		`absent(nothing)`, `absent(work_done_total)`, `scrape_samples_scraped offset 2s`, `sum_over_time(up[5s:500ms])`, `label_replace(up, "x", "$1", "job", "(.).*")`,
		`count_over_time(odd[5s])`, `sum_over_time(odd{is="third"}[5s])`, `deriv(work_done_total[5s])`, `last_over_time(comes_and_goes[20s])`,
	}
	check := func(stage string) {
		t.Helper()
		for _, end := range ends {
			for _, q := range queries {
				params := url.Values{"query": {q}, "time": {seconds(end)}}
				require.JSONEq(t, sorted(t, get(t, prom, "/api/v1/query", params)), sorted(t, get(t, p.url, "/api/v1/query", params)), "%s: %s at %s", stage, q, seconds(end))
				params = url.Values{"query": {q}, "start": {seconds(end.Add(-rangeLength))}, "end": {seconds(end)}, "step": {fmt.Sprint(rangeStep.Seconds())}}
				require.JSONEq(t, sorted(t, get(t, prom, "/api/v1/query_range", params)), sorted(t, get(t, p.url, "/api/v1/query_range", params)), "%s: range %s", stage, q)
			}
			// Of the target that is gone: of the other one new series may be on their way.
			window := url.Values{"start": {seconds(end.Add(-5 * time.Second))}, "end": {seconds(end)}, "match[]": {`{job="work"}`}}
			series := url.Values{"match[]": {`{job="work"}`, `{__name__=~"up|odd"}`}, "start": window["start"], "end": window["end"]}
			require.JSONEq(t, sorted(t, get(t, prom, "/api/v1/series", series)), sorted(t, get(t, p.url, "/api/v1/series", series)), "%s: series", stage)
			for _, path := range []string{"/api/v1/labels", "/api/v1/label/job/values", "/api/v1/label/__name__/values", "/api/v1/label/is/values"} {
				require.JSONEq(t, string(get(t, prom, path, window)), string(get(t, p.url, path, window)), "%s: %s", stage, path)
			}
		}
		raw := `{job="work"}[20s]`
		// As text, for a NaN does not equal itself.
		require.Equal(t, fmt.Sprint(matrix(t, prom, raw, ends[0])), fmt.Sprint(matrix(t, p.url, raw, ends[0])), "%s: every sample", stage)
	}
	check("as written")
	require.Eventually(t, func() bool { return flushes(t, p.url) >= 2 }, 2*time.Minute, 50*time.Millisecond)
	check("flushed")
	p.stop(t)
	p = start(t, port, nil, args...).ready(t)
	check("restarted")
	p.stop(t)
	p = start(t, port, nil, append(args, "--storage.head.cache-size", "1B")...).ready(t)
	check("from the database alone")
}

// The range queries that are compared, and the ranges of their selectors.
const (
	rangeLength = 6 * time.Second
	rangeStep   = 700 * time.Millisecond
)

var selectorRanges = []time.Duration{5 * time.Second, 6 * time.Second, 7 * time.Second, 20 * time.Second}

// quietEnds returns two times up to the latest, about three seconds apart, at which queries may be compared: no sample lies at the left end of a
// range, neither at these times nor at the steps before them. Releases before 3.0 count the left end, later ones do not. When a target is scraped
// is a whole number of intervals and what its address, which is by chance, makes of them.
func quietEnds(t *testing.T, prom string, latest time.Time) []time.Time {
	t.Helper()
	scraped := map[int64]bool{} // ms
	for _, samples := range matrix(t, prom, `{__name__=~"up|scrape_samples_scraped|work_done_total|odd|comes_and_goes"}[1m]`, latest) {
		for _, s := range samples {
			scraped[s.Timestamp] = true
		}
	}
	require.NotEmpty(t, scraped)
	quiet := func(end time.Time) bool {
		steps := []time.Time{end}
		for at := end.Add(-rangeLength); !at.After(end); at = at.Add(rangeStep) {
			steps = append(steps, at)
		}
		for _, at := range steps {
			for _, r := range selectorRanges {
				if scraped[at.Add(-r).UnixMilli()] {
					return false
				}
			}
		}
		return true
	}
	var ends []time.Time
	for _, end := range []time.Time{latest, latest.Add(-2926 * time.Millisecond)} {
		end = end.Truncate(time.Millisecond)
		for earliest := end.Add(-250 * time.Millisecond); !quiet(end); end = end.Add(-time.Millisecond) {
			require.True(t, end.After(earliest), "there are scrapes at each time of an interval")
		}
		ends = append(ends, end)
	}
	return ends
}

// instant returns the number that a query gives now, and whether there is one.
func instant(t *testing.T, base, query string) (value float64, found bool) {
	t.Helper()
	var v struct{ Result []struct{ Value [2]any } }
	require.NoError(t, json.Unmarshal(get(t, base, "/api/v1/query", url.Values{"query": {query}}), &v))
	if len(v.Result) == 0 {
		return 0, false
	}
	_, err := fmt.Sscan(v.Result[0].Value[1].(string), &value)
	require.NoError(t, err)
	return value, true
}

// flushes returns how many flushes promkeep has done.
func flushes(t *testing.T, base string) int {
	t.Helper()
	resp, err := http.Get(base + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	return int(metric(t, resp.Body, "promkeep_flush_duration_seconds_count"))
}
