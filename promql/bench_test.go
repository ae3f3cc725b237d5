package promql

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	keep "github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// benchEnd is where the data of the benchmark ends: within a day, so that the head's hours lie in one.
var benchEnd = time.Date(2026, 3, 10, 23, 0, 0, 0, time.UTC)

var benchTimescaleDB = flag.String("bench.timescaledb", "off", "whether TimescaleDB keeps the long-term store: off or on")

const benchInterval = 15 * time.Second

// BenchmarkQuery asks dashboards' queries of promkeep and of Prometheus' own TSDB, in process, in turn, with the engine that
// each has: over the last hour from memory, over a day and over a week from the long-term store. It prints a table.
func BenchmarkQuery(b *testing.B) {
	for _, c := range []struct {
		name         string
		size         int           // of the cluster
		span         time.Duration // of the data
		asked, step  time.Duration
		interval     time.Duration
		flush        time.Duration
		to           stage
		coarseRanges bool
	}{
		{name: "hour", size: 20, span: 90 * time.Minute, asked: time.Hour, step: 15 * time.Second, interval: benchInterval, flush: 10 * time.Minute, to: inHead},
		{name: "day", size: 6, span: 22*time.Hour + 30*time.Minute, asked: 22 * time.Hour, step: 6 * time.Minute, interval: benchInterval, flush: 45 * time.Minute, to: merged, coarseRanges: true},
		{name: "week", size: 2, span: 7 * 24 * time.Hour, asked: 7*24*time.Hour - time.Hour, step: 40 * time.Minute, interval: benchInterval, flush: 45 * time.Minute, to: merged, coarseRanges: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			reference, ours := benchStores(b, c.size, c.span, c.interval, c.flush, c.to)
			theirs := upstream.NewEngine(upstream.EngineOpts{MaxSamples: DefaultMaxSamples, Timeout: DefaultTimeout, LookbackDelta: DefaultLookbackDelta, EnableAtModifier: true, EnableNegativeOffset: true,
				NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() }})
			b.Cleanup(func() { require.NoError(b, theirs.Close()) })
			engine := NewEngine(EngineOptions{})
			b.Cleanup(func() { require.NoError(b, engine.Close()) })
			start := benchEnd.Add(-c.asked)
			run := func(e upstream.QueryEngine, q storage.Queryable, query string) (time.Duration, int) {
				began := time.Now()
				qry, err := e.NewRangeQuery(context.Background(), q, nil, query, start, benchEnd, c.step)
				require.NoError(b, err)
				res := qry.Exec(context.Background())
				require.NoError(b, res.Err)
				took := time.Since(began)
				n := len(res.Value.(upstream.Matrix))
				qry.Close()
				return took, n
			}
			var table strings.Builder
			w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
			var sum [2]time.Duration
			logs, count, worst := 0.0, 0, 0.0
			for _, query := range benchQueries {
				name, query, _ := strings.Cut(query, ": ")
				if c.coarseRanges {
					query = strings.ReplaceAll(query, "[5m]", "[15m]")
				}
				b.Run(name, func(b *testing.B) {
					var took [2]time.Duration
					for b.Loop() {
						t, want := run(theirs, reference, query)
						k, got := run(engine, ours, query)
						require.Equal(b, want, got)
						require.NotZero(b, got)
						took[0] += t
						took[1] += k
					}
					n := time.Duration(b.N)
					ratio := float64(took[1]) / float64(took[0])
					b.ReportMetric(float64(took[0]/n)/1e6, "prometheus-ms")
					b.ReportMetric(float64(took[1]/n)/1e6, "promkeep-ms")
					b.ReportMetric(ratio, "ratio")
					fmt.Fprintf(w, "%s\t%.2f ms\t%.2f ms\t%.2f\t\n", name, float64(took[0]/n)/1e6, float64(took[1]/n)/1e6, ratio)
					sum[0] += took[0] / n
					sum[1] += took[1] / n
					logs += math.Log(ratio)
					count++
					worst = max(worst, ratio)
				})
			}
			if count == 0 {
				return
			}
			fmt.Fprintf(w, "total\t%.2f ms\t%.2f ms\t%.2f\t\n", float64(sum[0])/1e6, float64(sum[1])/1e6, float64(sum[1])/float64(sum[0]))
			w.Flush()
			fmt.Fprintf(os.Stderr, "%s:\n%sgeometric mean %.2f, worst %.2f\n", c.name, table.String(), math.Exp(logs/float64(count)), worst)
		})
	}
}

// benchQueries are panels of dashboards in wide use, or close to them.
var benchQueries = []string{
	`cpu by mode: sum by (mode) (rate(node_cpu_seconds_total[5m]))`,
	`cpu busy: 100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))`,
	`cpu raw rate: rate(node_cpu_seconds_total{mode=~"user|system"}[5m])`,
	`memory: 1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes`,
	`load: sum(node_load1) / count(count by (instance, cpu) (node_cpu_seconds_total))`,
	`filesystem: 100 - 100 * node_filesystem_avail_bytes{fstype!="tmpfs"} / node_filesystem_size_bytes{fstype!="tmpfs"}`,
	`network: sum by (instance) (irate(node_network_receive_bytes_total{device!~"lo|veth.*"}[5m]) * 8)`,
	`top pods: topk(10, sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!=""}[5m])))`,
	`pod memory: sum by (namespace) (container_memory_working_set_bytes{container!="", pod=~"pod-.*"})`,
	`one pod: sum by (container) (rate(container_cpu_usage_seconds_total{namespace="ns-1", pod="pod-6"}[5m]))`,
	`pod phases: sum by (namespace, phase) (kube_pod_status_phase) > 0`,
	`cpu by node: sum by (node) (rate(container_cpu_usage_seconds_total{container!=""}[5m]) * on (namespace, pod) group_left (node) kube_pod_info)`,
	`limits: sum by (namespace) (rate(container_cpu_usage_seconds_total[5m])) / sum by (namespace) (kube_pod_container_resource_limits{resource="cpu"})`,
	`p99: histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))`,
	`p95 by handler: histogram_quantile(0.95, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))`,
	`mean latency: sum by (handler) (rate(http_request_duration_seconds_sum[5m])) / sum by (handler) (rate(http_request_duration_seconds_count[5m]))`,
	`errors: sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))`,
	`smooth memory: avg_over_time(node_memory_MemAvailable_bytes[30m])`,
	`peak memory: max by (namespace) (max_over_time(container_memory_working_set_bytes{container!=""}[10m]))`,
	`subquery: max_over_time(sum(rate(http_requests_total[5m]))[30m:1m])`,
	`up: count by (job) (up == 1)`,
	`restarts: sum by (namespace) (increase(kube_pod_container_status_restarts_total[30m])) > 0`,
	`deviation: stddev by (namespace) (container_memory_working_set_bytes)`,
	`absent limits: count by (namespace) (kube_pod_info unless on (namespace, pod) kube_pod_container_resource_limits)`,
	`prediction: predict_linear(node_filesystem_avail_bytes{mountpoint="/"}[30m], 4 * 3600) < 0 or node_filesystem_avail_bytes{mountpoint="/"}`,
}

// benchSeries is the series of a cluster of so many nodes, and how each goes on.
func benchSeries(nodes int) (out []labels.Labels, next []func(*rand.Rand, float64) float64) {
	add := func(f func(*rand.Rand, float64) float64, name string, pairs ...string) {
		out = append(out, labels.FromStrings(append([]string{"__name__", name, "cluster", "one"}, pairs...)...))
		next = append(next, f)
	}
	constant := func(v float64) func(*rand.Rand, float64) float64 {
		return func(*rand.Rand, float64) float64 { return v }
	}
	seconds := func(r *rand.Rand, v float64) float64 { return math.Round((v+r.Float64()*3)*100) / 100 }
	long := func(r *rand.Rand, v float64) float64 { return v + r.Float64()*2 }
	count := func(r *rand.Rand, v float64) float64 { return v + float64(r.IntN(50)) }
	bytes := func(r *rand.Rand, v float64) float64 { return v + float64(r.IntN(1<<20)) }
	pages := func(r *rand.Rand, v float64) float64 {
		return max(1<<26, v+float64(r.IntN(2001)-1000)*4096)
	}
	rare := func(r *rand.Rand, v float64) float64 {
		if r.IntN(500) == 0 {
			return v + 1
		}
		return v
	}
	load := func(r *rand.Rand, _ float64) float64 { return math.Round(r.Float64()*400) / 100 }
	for n := range nodes {
		instance := fmt.Sprintf("10.0.0.%d:9100", n)
		node := fmt.Sprintf("node-%d", n)
		with := func(pairs ...string) []string { return append([]string{"job", "node", "instance", instance}, pairs...) }
		for cpu := range 8 {
			for _, mode := range []string{"idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"} {
				add(seconds, "node_cpu_seconds_total", with("cpu", fmt.Sprint(cpu), "mode", mode)...)
			}
		}
		add(constant(64<<30), "node_memory_MemTotal_bytes", with()...)
		add(pages, "node_memory_MemAvailable_bytes", with()...)
		add(load, "node_load1", with()...)
		for _, mount := range []string{"/", "/var", "/boot", "/data"} {
			add(pages, "node_filesystem_avail_bytes", with("mountpoint", mount, "fstype", "ext4", "device", "/dev/sda")...)
			add(constant(1<<40), "node_filesystem_size_bytes", with("mountpoint", mount, "fstype", "ext4", "device", "/dev/sda")...)
		}
		for _, device := range []string{"lo", "eth0", "eth1", "veth0", "veth1"} {
			add(bytes, "node_network_receive_bytes_total", with("device", device)...)
		}
		for _, job := range []string{"node", "kubelet", "cadvisor", "app"} {
			add(constant(1), "up", "job", job, "instance", instance)
		}
		for p := range 20 {
			namespace, pod := fmt.Sprintf("ns-%d", p%5), fmt.Sprintf("pod-%d", n*20+p)
			add(constant(1), "kube_pod_info", "namespace", namespace, "pod", pod, "node", node, "job", "kube-state-metrics")
			for i, phase := range []string{"Running", "Pending", "Failed", "Succeeded", "Unknown"} {
				add(constant(float64(max(0, 1-i))), "kube_pod_status_phase", "namespace", namespace, "pod", pod, "phase", phase, "job", "kube-state-metrics")
			}
			for _, container := range []string{"", "app", "sidecar"} {
				pairs := []string{"namespace", namespace, "pod", pod, "job", "cadvisor", "instance", instance}
				if container != "" {
					pairs = append(pairs, "container", container)
				}
				add(long, "container_cpu_usage_seconds_total", pairs...)
				add(pages, "container_memory_working_set_bytes", pairs...)
			}
			if p%4 != 0 {
				add(constant(2), "kube_pod_container_resource_limits", "namespace", namespace, "pod", pod, "resource", "cpu", "job", "kube-state-metrics")
			}
			add(rare, "kube_pod_container_status_restarts_total", "namespace", namespace, "pod", pod, "container", "app", "job", "kube-state-metrics")
		}
		for h := range 5 {
			handler := fmt.Sprintf("/api/%d", h)
			for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"} {
				add(count, "http_request_duration_seconds_bucket", "job", "app", "instance", instance, "handler", handler, "le", le)
			}
			add(count, "http_request_duration_seconds_count", "job", "app", "instance", instance, "handler", handler)
			add(long, "http_request_duration_seconds_sum", "job", "app", "instance", instance, "handler", handler)
			for _, code := range []string{"200", "404", "500", "503"} {
				add(count, "http_requests_total", "job", "app", "instance", instance, "handler", handler, "code", code)
			}
		}
	}
	return out, next
}

// benchStores writes the same samples to both.
func benchStores(b *testing.B, nodes int, span, interval, flush time.Duration, to stage) (*tsdb.DB, storage.Queryable) {
	ctx := context.Background()
	begin := time.Now()
	opts := tsdb.DefaultOptions()
	opts.WALSegmentSize = -1
	opts.RetentionDuration = 1000 * 24 * time.Hour.Milliseconds()
	opts.MaxBlockDuration = 36 * time.Hour.Milliseconds() // a tenth of the default retention, as Prometheus itself sets it
	reference, err := tsdb.Open(b.TempDir(), nil, nil, opts, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, reference.Close()) })
	reference.DisableCompactions()

	now := benchEnd.Add(-span)
	pg := pgtest.New(b, pgtest.Empty)
	db, err := keep.Open(ctx, keep.Config{
		URI: pg.URI, Logger: slog.New(slog.NewTextHandler(testWriter{b}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Retention: 100 * 365 * 24 * time.Hour, NoMaintenance: true, TimescaleDB: schema.TimescaleDBMode(*benchTimescaleDB), Now: func() time.Time { return now },
	})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s := &store{DB: db, pg: pg}

	all, next := benchSeries(nodes)
	r := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, len(all))
	refs := make([]storage.SeriesRef, len(all))
	for i := range values {
		values[i] = float64(r.IntN(1 << 30))
	}
	for now.Before(benchEnd) {
		from, until := now, now.Add(flush)
		if until.After(benchEnd) {
			until = benchEnd.Add(time.Second)
		}
		for at := 0; at < len(all); at += 200 {
			batch, err := db.NewBatch(ctx, "")
			require.NoError(b, err)
			a := reference.Appender(ctx)
			for i := at; i < min(at+200, len(all)); i++ {
				if key := keyOf(all[i]); !batch.Known(key) {
					batch.New(key, all[i])
				}
				offset := time.Duration(all[i].Hash()%4) * 1700 * time.Millisecond
				for t := from; t.Before(until); t = t.Add(interval) {
					values[i] = next[i](r, values[i])
					ms := t.Add(offset).UnixMilli()
					batch.Float(ms, 0, values[i])
					refs[i], err = a.Append(refs[i], all[i], ms, values[i])
					require.NoError(b, err)
				}
			}
			require.NoError(b, batch.Commit(ctx))
			batch.Release()
			require.NoError(b, a.Commit())
		}
		now = until
		if to != inHead || until.Before(benchEnd) {
			require.NoError(b, db.Flush(ctx))
			require.NoError(b, db.Maintain(ctx))
		}
		require.NoError(b, reference.Compact(ctx))
	}
	if to != inHead {
		now = benchEnd.Add(36 * time.Hour) // what is cached is evicted
		require.NoError(b, s.moveTo(ctx, to))
		require.NoError(b, s.moveTo(ctx, to))
		require.NoError(b, pgtestExec(ctx, pg, "VACUUM ANALYZE"))
	}
	b.Logf("%d series, %d samples each, in %s; %d blocks", len(all), span/interval, time.Since(begin).Round(time.Second), len(reference.Blocks()))
	return reference, db
}
