package bench

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// dashboardQuery is a panel of a dashboard.
type dashboardQuery struct{ name, expr string }

// dashboardQueries are panels of dashboards in wide use (node_exporter's, the kubernetes-mixin, those of instrumented services), or
// close to them, over the metrics of families.go. None of them depends on which of several equal values comes first.
var dashboardQueries = parseQueries(`
cpu by mode: sum by (mode) (rate(node_cpu_seconds_total[5m]))
cpu busy: 100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))
cpu of each core: rate(node_cpu_seconds_total{mode=~"user|system|iowait"}[5m])
cpu now: sum by (instance) (irate(node_cpu_seconds_total{mode!="idle"}[5m]))
load per core: sum by (instance) (node_load1) / count by (instance) (node_cpu_seconds_total{mode="idle"})
memory: 1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes
memory used: node_memory_MemTotal_bytes - node_memory_MemFree_bytes - node_memory_Buffers_bytes - node_memory_Cached_bytes
smooth memory: avg_over_time(node_memory_MemAvailable_bytes[30m])
filesystem: 100 - 100 * node_filesystem_avail_bytes{fstype!~"tmpfs|vfat"} / node_filesystem_size_bytes{fstype!~"tmpfs|vfat"}
filesystem in 4 h: predict_linear(node_filesystem_avail_bytes{mountpoint="/"}[1h], 4 * 3600)
network: sum by (instance) (rate(node_network_receive_bytes_total{device!~"lo|veth.*"}[5m]) * 8)
network, both ways: rate(node_network_receive_bytes_total{device="eth0"}[5m]) + rate(node_network_transmit_bytes_total{device="eth0"}[5m])
disk busy: max by (instance, device) (rate(node_disk_io_time_seconds_total[5m]))
disk latency: rate(node_disk_read_time_seconds_total[5m]) / rate(node_disk_reads_completed_total[5m])
temperature: max by (instance) (avg_over_time(node_hwmon_temp_celsius[10m]))
uptime: node_time_seconds - node_boot_time_seconds
up: sum by (job) (up) / count by (job) (up)
cpu by namespace: sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[5m]))
top pods: topk(10, sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!=""}[5m])))
one service: sum by (pod, container) (rate(container_cpu_usage_seconds_total{pod=~"service-3-.*"}[5m]))
memory by namespace: sum by (namespace) (container_memory_working_set_bytes{container!="", image!=""})
peak memory: max by (namespace, pod) (max_over_time(container_memory_working_set_bytes{container!=""}[10m]))
memory of containers: container_memory_rss{namespace=~"team-[0-9]", container="app"}
memory of limits: sum by (namespace, pod, container) (container_memory_working_set_bytes) / sum by (namespace, pod, container) (kube_pod_container_resource_limits{resource="memory"})
cpu of requests: sum by (namespace) (rate(container_cpu_usage_seconds_total[5m])) / sum by (namespace) (kube_pod_container_resource_requests{resource="cpu"})
throttling: sum by (pod) (increase(container_cpu_cfs_throttled_periods_total[30m])) / sum by (pod) (increase(container_cpu_cfs_periods_total[30m])) > 0.25
pod network: sum by (namespace) (irate(container_network_receive_bytes_total[5m]))
join: sum by (uid) (rate(container_cpu_usage_seconds_total{container!=""}[5m]) * on (namespace, pod) group_left (uid) kube_pod_info)
relabelled: sum by (service) (label_replace(rate(container_cpu_usage_seconds_total{container="app"}[5m]), "service", "$1", "pod", "(service-[0-9]+)-.*"))
phases: sum by (namespace, phase) (kube_pod_status_phase) > 0
not ready: count by (namespace) (kube_pod_info unless on (namespace, pod) kube_pod_status_ready{condition="true"} == 1)
restarts: sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total[1h])) > 0
deviation: stddev by (namespace) (container_memory_working_set_bytes)
quantile of pods: quantile by (namespace) (0.9, container_memory_working_set_bytes{container!=""})
p99: histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))
p95 by handler: histogram_quantile(0.95, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))
apdex: (sum(rate(http_request_duration_seconds_bucket{le="0.25"}[5m])) + sum(rate(http_request_duration_seconds_bucket{le="1"}[5m]))) / 2 / sum(rate(http_request_duration_seconds_count[5m]))
mean latency: sum by (handler) (rate(http_request_duration_seconds_sum[5m])) / sum by (handler) (rate(http_request_duration_seconds_count[5m]))
errors: sum(rate(http_responses_total{code=~"5.."}[5m])) / sum(rate(http_responses_total[5m]))
requests of half an hour ago: sum(rate(http_request_duration_seconds_count[5m])) / sum(rate(http_request_duration_seconds_count[5m] offset 30m))
subquery: max_over_time(sum(rate(http_request_duration_seconds_count[5m]))[30m:1m])
subquery of services: quantile_over_time(0.9, sum by (job) (rate(http_request_duration_seconds_count[5m]))[15m:1m])
heap by name: sum by (__name__) ({__name__=~"go_memstats_(heap_alloc|heap_inuse|stack_inuse)_bytes", job=~"service-.*"})
goroutines: max by (job) (go_goroutines)
`)

func parseQueries(text string) []dashboardQuery {
	var out []dashboardQuery
	for line := range strings.Lines(strings.TrimSpace(text)) {
		name, expr, _ := strings.Cut(strings.TrimSpace(line), ": ")
		out = append(out, dashboardQuery{name, expr})
	}
	return out
}

// metricsOf returns which of the names the queries read.
func metricsOf(queries []dashboardQuery, names []string) (map[string]bool, error) {
	out := map[string]bool{}
	p := parser.NewParser(parser.Options{})
	for _, q := range queries {
		e, err := p.ParseExpr(q.expr)
		if err != nil {
			return nil, err
		}
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			vs, ok := n.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			for _, m := range vs.LabelMatchers {
				for _, name := range names {
					if m.Name == model.MetricNameLabel && m.Matches(name) {
						out[name] = true
					}
				}
			}
			return nil
		})
	}
	return out, nil
}

// makePlausible changes values that belong together so that they fit: buckets of a histogram are cumulative, and restart
// together; info metrics are 1; a pod is in one phase.
func makePlausible(l Load, v *Values) {
	machine := l.machine()
	series := func(i int) []float64 { return v.v[i*v.Window : (i+1)*v.Window] }
	for i := 0; i < l.Series; i++ {
		s := machine[i%len(machine)]
		value := func(label string) string {
			for j := 0; j+1 < len(s.labels); j += 2 {
				if s.labels[j] == label {
					return s.labels[j+1]
				}
			}
			return ""
		}
		switch {
		case strings.HasSuffix(s.family.name, "_info"):
			fill(series(i), 1)
		case s.family.name == "kube_pod_status_phase" && value("phase") != "Running":
			fill(series(i), 0)
		case s.family.kind == "histogram_bucket":
			n := 1 // series up to le="+Inf"
			for ; i+n < l.Series && value("le") != "+Inf"; n++ {
				s = machine[(i+n)%len(machine)]
			}
			all := make([][]float64, n)
			for j := range all {
				all[j] = series(i + j)
			}
			cumulate(all)
			i += n - 1
		}
	}
}

func fill(v []float64, x float64) {
	for i := range v {
		v[i] = x
	}
}

// cumulate makes counters of the events in each bucket those of the events up to it. They restart when the first does.
func cumulate(buckets [][]float64) {
	before := make([]float64, len(buckets)) // of what was counted before
	counted := make([]float64, len(buckets))
	for k := range buckets[0] {
		restarted := k > 0 && buckets[0][k] < before[0]
		var sum float64
		for j, b := range buckets {
			grown := b[k] - before[j]
			if grown < 0 {
				grown = b[k]
			}
			before[j] = b[k]
			if restarted {
				counted[j] = 0
			}
			sum += grown
			counted[j] += sum
			b[k] = counted[j]
		}
	}
}
