package app_test

import (
	"bytes"
	"context"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/jackc/pgx/v5"
	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/postgres"
)

// The size of the history that TestImportAnswersAsARealPrometheus makes, and the Prometheus that makes it.
const (
	importSamplesEnv    = "PROMKEEP_TEST_IMPORT_SAMPLES"    // such as 10000000
	importPrometheusEnv = "PROMKEEP_TEST_IMPORT_PROMETHEUS" // its program; else the one in PATH
)

// realPrometheus runs a Prometheus that takes remote writes and snapshots, and returns its URL and data directory.
func realPrometheus(t *testing.T) (base, data string) {
	t.Helper()
	program := os.Getenv(importPrometheusEnv)
	if program == "" {
		var err error
		program, err = exec.LookPath("prometheus")
		require.NoError(t, err, "Prometheus is not installed: run make deps-test")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), nil, 0o644))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(program, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address, "--log.level", "warn", "--web.enable-remote-write-receiver", "--web.enable-admin-api", "--storage.tsdb.retention.time", "10y")
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	base = "http://" + address
	require.Eventually(t, func() bool {
		resp, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 2*time.Minute, 20*time.Millisecond, "Prometheus does not start: %s", log)
	return base, filepath.Join(dir, "data")
}

// remoteWrite sends a request of remote write 1.0.
func remoteWrite(t testing.TB, base string, series []prompb.TimeSeries) {
	t.Helper()
	req := prompb.WriteRequest{Timeseries: series}
	body, err := req.Marshal()
	require.NoError(t, err)
	r, err := http.NewRequest(http.MethodPost, base+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 2, resp.StatusCode/100, "%s", text)
}

// writeHistory writes about n samples of counters, gauges and churning pods, a scrape every 15 s, that end at the time, and returns when
// they begin.
func writeHistory(t testing.TB, base string, n int, end time.Time) time.Time {
	t.Helper()
	instances := max(n/(3*24*240*40), 1) // of 40 series each, for about three days
	scrapes := n / (instances * 40)
	begin := end.Add(-time.Duration(scrapes) * 15 * time.Second)
	random := rand.New(rand.NewPCG(7, 7))
	const step = 20 // scrapes of a request
	// Far from zero, near which releases extrapolate otherwise.
	counters := make([]float64, instances*40)
	for i := range counters {
		counters[i] = 1e7
	}
	var series []prompb.TimeSeries
	for from := 0; from < scrapes; from += step {
		series = series[:0]
		for i := range instances {
			instance := fmt.Sprintf("10.0.%d.%d:9100", i/250, i%250)
			for k := range 40 {
				var samples []prompb.Sample
				kind := ""
				for s := from; s < min(from+step, scrapes); s++ {
					at := begin.Add(time.Duration(s)*15*time.Second + time.Duration(i*37%15000)*time.Millisecond).UnixMilli()
					c := &counters[i*40+k]
					var v float64
					switch {
					case k < 24:
						kind = "requests_total"
						if *c += float64(random.IntN(50 * (k + 1))); random.IntN(5000) == 0 {
							*c = 1e6
						}
						v = *c
					case k < 34:
						kind = "load"
						v = math.Round(1000*math.Sin(float64(s)/float64(50+k)))/10 + float64(random.IntN(20))/10
					case k < 38:
						kind = "info"
						v = float64(k)
					default:
						kind = "noise"
						v = random.NormFloat64()
					}
					samples = append(samples, prompb.Sample{Timestamp: at, Value: v})
				}
				series = append(series, timeSeries(samples, "__name__", kind, "instance", instance, "job", "node", "k", fmt.Sprint(k)))
			}
		}
		// A pod an hour, that ends with a stale marker.
		at := begin.Add(time.Duration(from) * 15 * time.Second)
		var samples []prompb.Sample
		for s := from; s < min(from+step, scrapes); s++ {
			samples = append(samples, prompb.Sample{Timestamp: begin.Add(time.Duration(s) * 15 * time.Second).UnixMilli(), Value: float64(s)})
		}
		if at.Add(step*15*time.Second).Truncate(time.Hour) != at.Truncate(time.Hour) {
			samples[len(samples)-1].Value = math.Float64frombits(value.StaleNaN)
		}
		series = append(series, timeSeries(samples, "__name__", "pod_up", "pod", at.Truncate(time.Hour).UTC().Format("pod-02-15")))
		remoteWrite(t, base, series)
	}
	return begin
}

// runImport runs promkeep import, and returns its summary.
func runImport(t testing.TB, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"import"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	log := &logBuffer{}
	cmd.Stderr = log
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", out, log)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	t.Logf("promkeep import %s: %.2f s of CPU, %d MiB of memory\n%s%s", strings.Join(args, " "),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), usage.Maxrss/1024, out, log)
	return string(out)
}

// counted returns a number of a summary.
func counted(t testing.TB, summary, what string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + what + ` +(\d+)`).FindStringSubmatch(summary)
	require.NotNil(t, m, "%s in %s", what, summary)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}

// TestImportAnswersAsARealPrometheus lets a real Prometheus write blocks, and imports them into a promkeep that serves: in a dry run, killed
// in the middle, resumed, and once more. Every sample and every answer is that of this Prometheus; so is every sample that is
// imported from it over remote read.
func TestImportAnswersAsARealPrometheus(t *testing.T) {
	t.Parallel()
	n := 300_000
	if text := os.Getenv(importSamplesEnv); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	prom, promData := realPrometheus(t)
	// A scrape never falls on a step of a subquery, which is a multiple of its resolution whatever the query's time.
	end := time.Now().Add(-4 * time.Minute).Truncate(time.Minute).Add(7 * time.Second)
	begin := writeHistory(t, prom, n, end)
	resp, err := http.Post(prom+"/api/v1/admin/tsdb/snapshot", "", nil)
	require.NoError(t, err)
	var snapshot struct{ Data struct{ Name string } }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&snapshot))
	resp.Body.Close()
	require.NotEmpty(t, snapshot.Data.Name)
	blocks := filepath.Join(promData, "snapshots", snapshot.Data.Name)

	dir := dataDir(t)
	data := []string{"--data-dir", dir}
	dry := runImport(t, nil, append(data, "--dry-run", "blocks", blocks)...)
	require.Contains(t, dry, "nothing was written")
	require.NoDirExists(t, filepath.Join(dir, "postgres"))
	all := counted(t, dry, "samples")
	require.InDelta(t, n, all, float64(n)/20)

	p := start(t, freePort(t), nil, append(data, "--storage.flush-interval", "5s")...).ready(t)
	// What is written meanwhile must not suffer.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // or the writer would go on after a test that failed
	written := make(chan int, 1)
	go func() {
		i := 0
		for ; ctx.Err() == nil; i++ {
			status, body, err := p.write(context.Background(), timeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: float64(i)}}, "__name__", "live"))
			if ctx.Err() == nil && (err != nil || status/100 != 2) {
				t.Errorf("a write beside the import: %d %s %v", status, body, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		written <- i
	}()
	small := append(data, "--batch-size", fmt.Sprint(min(n/40, 100_000)))
	left := all
	for i := range 3 {
		killImport(t, dir, all*(i+1)/4, append(small, "blocks", blocks)...)
		now := committed(t, dir)
		require.Less(t, now, all, "the import was killed in the middle")
		left = all - now
	}
	summary := runImport(t, nil, append(small, "blocks", blocks)...)
	require.Equal(t, left, counted(t, summary, "samples"), "what was imported is not imported again")
	cancel()
	sent := <-written
	check := func(stage string) {
		t.Helper()
		sameSamples(t, stage, prom, p.url, begin, end, labels.EmptyLabels())
		sameAnswers(t, stage, prom, p.url, begin, end)
	}
	check("imported")
	require.Zero(t, counted(t, runImport(t, nil, append(data, "blocks", blocks)...), "samples"))
	again := runImport(t, nil, append(data, "--again", "blocks", blocks)...)
	require.Equal(t, all, counted(t, again, "samples"))
	check("imported twice")
	require.Len(t, matrix(t, p.url, "live[1d]", time.Now())[`{"__name__":"live"}`], sent)
	p.stop(t)
	p = start(t, freePort(t), nil, data...).ready(t)
	check("restarted")

	remote := runImport(t, nil, append(data, "--label", "copy=remote", "--from", begin.Add(-time.Hour).Format(time.RFC3339), "remote-read", prom+"/api/v1/read")...)
	require.Equal(t, all, counted(t, remote, "samples"))
	sameSamples(t, "over remote read", prom, p.url, begin, end, labels.FromStrings("copy", "remote"))
}

// killImport kills an import after a while, or as soon as so many samples are noted: on a fast machine it would be done.
func killImport(t testing.TB, dir string, most int, args ...string) {
	t.Helper()
	uri, err := postgres.RunningURI(dir)
	require.NoError(t, err)
	conn, err := pgx.Connect(context.Background(), uri)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	cmd := exec.Command(binary, append([]string{"import"}, args...)...)
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	end := time.Now().Add(time.Duration(50+rand.IntN(1000)) * time.Millisecond)
	for noted := 0; time.Now().Before(end) && noted < most; time.Sleep(5 * time.Millisecond) {
		require.NoError(t, conn.QueryRow(context.Background(), "SELECT coalesce(sum(samples), 0) FROM _promkeep.import").Scan(&noted))
	}
	cmd.Process.Kill()
	t.Logf("killed: %v %s", cmd.Wait(), log)
}

// committed is how many samples imports have noted, in the embedded server of a data directory. What was under way may be committed
// after its process is gone.
func committed(t testing.TB, dir string) (n int) {
	t.Helper()
	uri, err := postgres.RunningURI(dir)
	require.NoError(t, err)
	conn, err := pgx.Connect(context.Background(), uri)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.Eventually(t, func() bool {
		var others int
		require.NoError(t, conn.QueryRow(context.Background(), "SELECT count(*) FROM pg_locks WHERE relation = '_promkeep.import'::regclass").Scan(&others))
		return others == 0
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, conn.QueryRow(context.Background(), "SELECT coalesce(sum(samples), 0) FROM _promkeep.import").Scan(&n))
	return n
}

// readAll returns what an endpoint of remote read has of a time, in the order of labels.
func readAll(t testing.TB, base string, from, to time.Time, ms ...*labels.Matcher) promstorage.SeriesSet {
	t.Helper()
	u, err := url.Parse(base + "/api/v1/read")
	require.NoError(t, err)
	client, err := remote.NewReadClient("test", &remote.ClientConfig{
		URL: &configutil.URL{URL: u}, Timeout: model.Duration(5 * time.Minute), HTTPClientConfig: configutil.DefaultHTTPClientConfig,
		ChunkedReadLimit: config.DefaultChunkedReadLimit, AcceptedResponseTypes: remote.AcceptedResponseTypes,
	})
	require.NoError(t, err)
	query, err := remote.ToQuery(from.UnixMilli(), to.UnixMilli(), ms, &promstorage.SelectHints{Start: from.UnixMilli(), End: to.UnixMilli()})
	require.NoError(t, err)
	set, err := client.Read(context.Background(), query, true)
	require.NoError(t, err)
	return set
}

// digests are the numbers of samples, and hashes over times and bits of values, by series.
func digests(t testing.TB, base string, from, to time.Time, without labels.Labels, ms ...*labels.Matcher) (map[string]string, int) {
	t.Helper()
	type sum struct {
		hash hash.Hash64
		n    int
	}
	sums := map[string]*sum{}
	set := readAll(t, base, from, to, ms...)
	var it chunkenc.Iterator
	all := 0
	for set.Next() {
		b := labels.NewBuilder(set.At().Labels())
		without.Range(func(l labels.Label) { b.Del(l.Name) })
		name := b.Labels().String()
		s := sums[name]
		if s == nil {
			s = &sum{hash: fnv.New64a()}
			sums[name] = s
		}
		it = set.At().Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			at, v := it.At()
			var b [16]byte
			endian.BigEndian.PutUint64(b[:], uint64(at))
			endian.BigEndian.PutUint64(b[8:], math.Float64bits(v))
			s.hash.Write(b[:])
			s.n++
			all++
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	out := map[string]string{}
	for name, s := range sums {
		out[name] = fmt.Sprintf("%d %x", s.n, s.hash.Sum64())
	}
	return out, all
}

// sameSamples compares every sample of the history; promkeep's series have further labels.
func sameSamples(t testing.TB, stage, prom, promkeep string, begin, end time.Time, further labels.Labels) {
	t.Helper()
	names := labels.MustNewMatcher(labels.MatchRegexp, "__name__", "requests_total|load|info|noise|pod_up")
	ours := []*labels.Matcher{names, labels.MustNewMatcher(labels.MatchEqual, "copy", further.Get("copy"))}
	all := 0
	for from := begin; from.Before(end); from = from.Add(6 * time.Hour) {
		to := from.Add(6*time.Hour - time.Millisecond)
		want, n := digests(t, prom, from, to, labels.EmptyLabels(), names)
		got, _ := digests(t, promkeep, from, to, further, ours...)
		require.NotEmpty(t, want)
		require.Len(t, got, len(want), stage)
		for name, digest := range want {
			require.Equal(t, digest, got[name], "%s: %s from %s to %s", stage, name, from, to)
		}
		all += n
	}
	t.Logf("%s: all %d samples are the same", stage, all)
}

// sameAnswers compares answers to PromQL, at times and steps of subqueries at which no scrape falls: releases before 3.0 count the left end
// of a range. Sums are of whole numbers, since older engines add up in another way.
func sameAnswers(t testing.TB, stage, prom, promkeep string, begin, end time.Time) {
	t.Helper()
	queries := []string{
		`count({__name__=~"requests_total|load|info|noise"})`, `count by (__name__) ({__name__=~"requests_total|load|info|noise"})`, `sum by (k) (requests_total)`, `max by (instance) (noise)`,
		`topk(5, requests_total)`, `count(pod_up)`, `pod_up`, `count_over_time(pod_up[1h])`, `last_over_time(pod_up[2h])`, `absent(pod_up{pod="none"})`,
		`max_over_time(load{k="25"}[10m])`, `quantile_over_time(0.9, noise{k="38"}[30m])`, `changes(info[1h])`, `resets(requests_total{k="3"}[6h])`,
		`count_over_time(requests_total{k="1"}[1h])`, `max by (instance) (rate(requests_total{k=~"1."}[5m]))`, `increase(requests_total{k="7"}[1h])`,
		`load{k="30"} / on (instance) group_left info{k="35"}`, `max_over_time(deriv(load{k="24"}[10m])[1h:5m])`, `requests_total{k="2"} offset 1h`,
		`timestamp(info{k="36"})`, `stdvar_over_time(noise{k="39"}[15m])`, `label_replace(info{k="37"}, "x", "$1", "instance", "(.*):.*")`,
	}
	length := end.Sub(begin)
	for _, q := range queries {
		for _, at := range []time.Time{begin.Add(length / 3), begin.Add(length / 2), end.Add(-time.Hour), end.Add(-time.Minute)} {
			at = at.Truncate(time.Second).Add(13 * time.Millisecond)
			params := url.Values{"query": {q}, "time": {seconds(at)}}
			require.JSONEq(t, sorted(t, get(t, prom, "/api/v1/query", params)), sorted(t, get(t, promkeep, "/api/v1/query", params)), "%s: %s at %s", stage, q, at)
		}
		params := url.Values{"query": {q}, "start": {seconds(begin.Add(2*time.Hour + 13*time.Millisecond))}, "end": {seconds(end)}, "step": {fmt.Sprint(int(length.Seconds()) / 50)}}
		require.JSONEq(t, sorted(t, get(t, prom, "/api/v1/query_range", params)), sorted(t, get(t, promkeep, "/api/v1/query_range", params)), "%s: range %s", stage, q)
	}
	window := url.Values{"start": {seconds(begin)}, "end": {seconds(end)}, "match[]": {`{__name__=~"requests_total|load|pod_up"}`}}
	for _, path := range []string{"/api/v1/series", "/api/v1/labels", "/api/v1/label/pod/values", "/api/v1/label/__name__/values", "/api/v1/label/instance/values"} {
		require.JSONEq(t, sorted(t, get(t, prom, path, window)), sorted(t, get(t, promkeep, path, window)), "%s: %s", stage, path)
	}
}
