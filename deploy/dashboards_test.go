package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v2"
)

const chart = "../charts/promkeep/"

type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		Title, Type string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Expr string }
	}
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(chart + "dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string]dashboard{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(b, &d), f)
		out[filepath.Base(f)] = d
	}
	return out
}

// withVariables is what Grafana makes of a query when All is chosen.
func withVariables(t *testing.T, d dashboard, expr string) string {
	t.Helper()
	expr = strings.ReplaceAll(expr, "$__rate_interval", "10s")
	for _, v := range d.Templating.List {
		expr = strings.ReplaceAll(expr, "$"+v.Name, ".*")
	}
	require.NotContains(t, expr, "$", "a variable that the dashboard does not have")
	return expr
}

// alerts returns the expressions of the rule file by name.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(chart + "rules/promkeep.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(b, &file))
	manual, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	out := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			out[r.Alert] = r.Expr
			require.Contains(t, string(manual), "\n### "+r.Alert+"\n", "docs/operations.md says what to do")
			require.True(t, strings.HasSuffix(r.Annotations["runbook_url"], "docs/operations.md#"+strings.ToLower(r.Alert)), r.Annotations["runbook_url"])
		}
	}
	require.NotEmpty(t, out)
	return out
}

// names returns the metrics an expression names.
func names(t *testing.T, expr string) []string {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, expr)
	var out []string
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			require.NotEmpty(t, v.Name, "a selector without a metric in %s", expr)
			out = append(out, v.Name)
		}
		return nil
	})
	return out
}

// exposed returns the names of the series that a program exposes, as a Prometheus stores them.
func exposed(t *testing.T, address string) map[string]bool {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	require.NoError(t, err)
	out := map[string]bool{}
	for name, f := range families {
		out[name] = true
		if len(f.Metric) > 0 && f.Metric[0].Histogram != nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				out[name+suffix] = true
			}
		}
	}
	return out
}

// exporter exposes what node_exporter, kube-state-metrics and cAdvisor do, of two clusters. Counters grow with the time.
func exporter(w http.ResponseWriter, _ *http.Request) {
	now := float64(time.Now().UnixMilli()%1e8) / 1000
	for i, cluster := range []string{"alpha", "beta"} {
		node := fmt.Sprintf(`cluster="%s",instance="node-%d:9100"`, cluster, i)
		pod := fmt.Sprintf(`cluster="%s",namespace="shop",pod="web-%d"`, cluster, i)
		for _, line := range []string{
			`node_uname_info{%[1]s,nodename="n"} 1`,
			`node_cpu_seconds_total{%[1]s,cpu="0",mode="idle"} %[3]f`,
			`node_cpu_seconds_total{%[1]s,cpu="0",mode="user"} %[3]f`,
			`node_load5{%[1]s} 0.7`,
			`node_memory_MemTotal_bytes{%[1]s} 8e9`,
			`node_memory_MemAvailable_bytes{%[1]s} 3e9`,
			`node_filesystem_size_bytes{%[1]s,device="/dev/sda1",fstype="ext4",mountpoint="/"} 1e11`,
			`node_filesystem_avail_bytes{%[1]s,device="/dev/sda1",fstype="ext4",mountpoint="/"} 4e10`,
			`node_network_receive_bytes_total{%[1]s,device="eth0"} %[3]f`,
			`node_network_transmit_bytes_total{%[1]s,device="eth0"} %[3]f`,
			`node_disk_io_time_seconds_total{%[1]s,device="sda"} %[3]f`,
			`kube_pod_info{%[2]s,node="n"} 1`,
			`kube_pod_status_phase{%[2]s,phase="Running"} 1`,
			`kube_pod_status_phase{%[2]s,phase="Pending"} 0`,
			`kube_pod_container_status_restarts_total{%[2]s,container="web"} %[3]f`,
			`kube_pod_container_resource_requests{%[2]s,container="web",resource="cpu",unit="core"} 0.5`,
			`kube_pod_container_resource_requests{%[2]s,container="web",resource="memory",unit="byte"} 1e9`,
			`kube_deployment_spec_replicas{cluster="` + cluster + `",namespace="shop",deployment="web"} 3%.0[1]s`,
			`kube_deployment_status_replicas_available{cluster="` + cluster + `",namespace="shop",deployment="web"} 2%.0[1]s`,
			`container_cpu_usage_seconds_total{%[2]s,container="web"} %[3]f`,
			`container_cpu_cfs_periods_total{%[2]s,container="web"} %[3]f`,
			`container_cpu_cfs_throttled_periods_total{%[2]s,container="web"} %[3]f`,
			`container_memory_working_set_bytes{%[2]s,container="web"} 5e8`,
			`container_network_receive_bytes_total{%[2]s,interface="eth0"} %[3]f`,
		} {
			line = strings.NewReplacer("%[1]s", node, "%[2]s", pod, "%[3]f", fmt.Sprintf("%f", now), "%.0[1]s", "").Replace(line)
			fmt.Fprintln(w, line)
		}
	}
}

// TestEveryQueryHasAnAnswer: a real Prometheus scrapes promkeep and an exporter with the metrics of two clusters, and writes them to
// promkeep. Every query and every variable of every dashboard has a non-empty answer, every name of promkeep's in dashboards,
// alerts and the operations manual is one that it exposes, and every alert is a query that promkeep answers.
func TestEveryQueryHasAnAnswer(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	require.NoError(t, err, "Prometheus is not installed: run make deps-test")
	address := promkeep(t)
	target := http.Server{Addr: freeAddress(t), Handler: http.HandlerFunc(exporter)}
	go target.ListenAndServe()
	t.Cleanup(func() { target.Close() })
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s}
remote_write:
  - url: http://%s/api/v1/write
    queue_config: {batch_send_deadline: 200ms}
scrape_configs:
  - job_name: promkeep
    static_configs: [{targets: ["%s"]}]
  - job_name: exporters
    honor_labels: true
    static_configs: [{targets: ["%s"]}]
`, address, address, target.Addr), 0o644))
	own := freeAddress(t)
	startProgram(t, "http://"+own, syscall.SIGKILL, prometheus, "--config.file", config, "--storage.tsdb.path", t.TempDir(), "--web.listen-address", own, "--log.level", "warn")

	type query struct{ where, expr string }
	var queries []query
	variables := map[string]url.Values{}
	for file, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			require.NotNil(t, m, v.Definition)
			names(t, withVariables(t, d, m[1]))
			variables["/api/v1/label/"+m[2]+"/values#"+file] = url.Values{"match[]": {withVariables(t, d, m[1])}}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				queries = append(queries, query{file + ": " + p.Title, withVariables(t, d, target.Expr)})
			}
		}
	}
	require.Greater(t, len(queries), 50)

	empty := func() []string {
		var out []string
		now := fmt.Sprint(time.Now().Unix())
		for _, q := range queries {
			data, err := ask(t, address, "/api/v1/query", url.Values{"query": {q.expr}, "time": {now}})
			require.NoError(t, err, "%s: %s", q.where, q.expr)
			var v struct{ Result []any }
			require.NoError(t, json.Unmarshal(data, &v))
			if len(v.Result) == 0 {
				out = append(out, q.where+": "+q.expr)
			}
		}
		for path, params := range variables {
			path, _, _ := strings.Cut(path, "#")
			data, err := ask(t, address, path, params)
			require.NoError(t, err, path)
			if string(data) == "[]" {
				out = append(out, path+" "+params.Encode())
			}
		}
		return out
	}
	deadline := time.Now().Add(4 * time.Minute)
	for left := empty(); len(left) > 0; left = empty() {
		require.True(t, time.Now().Before(deadline), "these have no answer:\n%s", strings.Join(left, "\n"))
		time.Sleep(500 * time.Millisecond)
	}

	have := exposed(t, address)
	check := func(where, expr string) {
		for _, name := range names(t, expr) {
			if strings.HasPrefix(name, "promkeep_") {
				require.True(t, have[name], "%s: promkeep has no metric %s, but %v", where, name, slices.Sorted(maps.Keys(have)))
			}
		}
	}
	for _, q := range queries {
		check(q.where, q.expr)
	}
	manual, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile(`promkeep_[a-z_]+`).FindAllString(string(manual), -1) {
		require.True(t, have[name], "docs/operations.md names %s", name)
	}
	for name, expr := range alerts(t) {
		check(name, expr)
		_, err := ask(t, address, "/api/v1/query", url.Values{"query": {expr}})
		require.NoError(t, err, name)
	}
}

// TestDashboardsAreWhole: they can be told apart, no panels overlap, and those for users have the variable of the cluster.
func TestDashboardsAreWhole(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range dashboards(t) {
		require.NotEmpty(t, d.UID)
		require.False(t, uids[d.UID], "%s has the UID of another one", file)
		uids[d.UID] = true
		var vars []string
		for _, v := range d.Templating.List {
			vars = append(vars, v.Name)
		}
		require.Contains(t, vars, "datasource", file)
		if file != "promkeep.json" {
			require.Contains(t, vars, "cluster", file)
		}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s: %s", file, p.Title)
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					require.Empty(t, taken[cell], "%s: %s overlaps", file, p.Title)
					taken[cell] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			require.NotEmpty(t, p.Targets, "%s: %s", file, p.Title)
			for _, target := range p.Targets {
				for _, v := range vars {
					if v != "datasource" {
						ok := strings.Contains(target.Expr, `"$`+v+`"`) || v == "instance" || file == "promkeep.json"
						require.True(t, ok, "%s: %s does not heed %s", file, p.Title, v)
					}
				}
			}
		}
	}
}
