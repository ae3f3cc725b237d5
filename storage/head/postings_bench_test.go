package head

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// scraped returns label sets as they come from the targets of machines, one target after the other: node_exporter's, cAdvisor's for
// a dozen pods of two containers, and those of six services with histograms. A machine has some 1,500.
func scraped(n int) []labels.Labels {
	type variants struct {
		metrics int
		names   []string // of the labels that tell the series of a metric apart
		values  [][]string
	}
	numbered := func(format string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return out
	}
	nodeExporter := []variants{
		{1, []string{"cpu", "mode"}, [][]string{numbered("%d", 8), {"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}}},
		{22, []string{"device"}, [][]string{append([]string{"lo", "eth0", "cni0", "flannel.1"}, numbered("veth%04x", 8)...)}},
		{13, []string{"device"}, [][]string{{"nvme0n1", "nvme1n1", "dm-0"}}},
		{9, []string{"mountpoint"}, [][]string{{"/", "/boot/efi", "/run", "/run/lock", "/var/lib/kubelet", "/var/lib/containerd"}}},
		{60, nil, nil},
	}
	cAdvisor := []variants{{30, nil, nil}, {1, []string{"failure_type", "scope"}, [][]string{{"pgfault", "pgmajfault"}, {"container", "hierarchy"}}}}
	service := []variants{
		{1, []string{"handler", "le", "method"}, [][]string{{"/api/v1/items", "/api/v1/items/{id}", "/healthz"},
			{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}, {"GET"}}},
		{30, nil, nil},
	}
	var out []labels.Labels
	target := func(kind string, vs []variants, of ...string) {
		for i, v := range vs {
			for m := range v.metrics {
				metric := append([]string{"__name__", fmt.Sprintf("%s_%d_metric_%d_total", kind, i, m), "cluster", "eu-west-1-production",
					"prometheus", "monitoring/k8s"}, of...)
				all := [][]string{metric}
				for k, name := range v.names {
					var more [][]string
					for _, have := range all {
						for _, value := range v.values[k] {
							more = append(more, append(have[:len(have):len(have)], name, value))
						}
					}
					all = more
				}
				for _, ls := range all {
					out = append(out, labels.FromStrings(ls...))
				}
			}
		}
	}
	for m := 0; len(out) < n; m++ {
		host, address := fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", m>>8, m&255), fmt.Sprintf("10.0.%d.%d", m>>8, m&255)
		target("node", nodeExporter, "container", "node-exporter", "endpoint", "https", "instance", address+":9100", "job", "node-exporter",
			"namespace", "monitoring", "node", host)
		for pod := range 12 {
			app := fmt.Sprintf("service-%d", (12*m+pod)%97)
			of := []string{"namespace", fmt.Sprintf("team-%d", (12*m+pod)%97%23), "node", host, "pod", fmt.Sprintf("%s-6b9df4b5c-%05x", app, 12*m+pod)}
			for _, c := range []string{"app", "istio-proxy"} {
				target("container", cAdvisor, append([]string{"container", c, "endpoint", "https-metrics", "instance", address + ":10250",
					"id", fmt.Sprintf("/kubepods.slice/kubepods-burstable-pod%032x.slice/cri-containerd-%s.scope", 12*m+pod, c),
					"image", "registry.example.com/" + app + ":v1.24.3", "job", "kubelet", "metrics_path", "/metrics/cadvisor"}, of...)...)
			}
			if pod%2 == 0 {
				target("http", service, append([]string{"container", "app", "endpoint", "metrics", "instance",
					fmt.Sprintf("10.1.%d.%d:8080", m&255, pod), "job", app}, of...)...)
			}
		}
	}
	return out[:n]
}

// BenchmarkAddAll puts series into an empty head, as many at once as a request of remote write brings. B/series is what the head then
// takes beside their labels.
func BenchmarkAddAll(b *testing.B) {
	all := scraped(400_000)
	entries := make([]Entry, len(all))
	fill := func() {
		for i, l := range all {
			entries[i] = Entry{Key: key(i), Labels: l, Hash: Hash(l), ID: uint64(i + 1)}
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	cpu := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	var bytes, spent int64
	for b.Loop() {
		b.StopTimer()
		fill()
		t := New().Tenant(1)
		before := heap()
		spent -= cpu()
		b.StartTimer()
		for at := 0; at < len(all); at += 2000 {
			t.AddAll(entries[at:min(at+2000, len(all))])
		}
		b.StopTimer()
		spent += cpu()
		bytes = heap() - before
		runtime.KeepAlive(t)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/series")
	b.ReportMetric(float64(spent)/float64(b.N*len(all)), "cpu-ns/series")
	b.ReportMetric(float64(bytes)/float64(len(all)), "B/series")
}

// BenchmarkCollect takes a quarter of all series out of a head, as after a rollout.
func BenchmarkCollect(b *testing.B) {
	all := scraped(400_000)
	for b.Loop() {
		b.StopTimer()
		h := New()
		for i, l := range all {
			s := h.Tenant(1).Add(Key{}, uint64(i+1), l, 0)
			if i%8000 >= 2000 {
				h.Append(s, 1, 0, 1)
			}
		}
		h.Advance()
		h.Advance()
		b.StartTimer()
		if n := len(h.Collect(func(*Series) {})); n != len(all)/4 {
			b.Fatal(n)
		}
	}
}
