package promql

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program finds a program that make test installs. Without it the test fails: a skipped test shows nothing.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "install Debian's package prometheus")
	return path
}

func TestPromtool(t *testing.T) {
	s := serve(t)
	promtool := program(t, "promtool")
	run := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := exec.Command(promtool, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		require.NoError(t, cmd.Run(), "%s\n%s", &out, &errs)
		return out.String()
	}
	end := s.at(samples - 1)
	at := end.UTC().Format(time.RFC3339)
	require.Equal(t, fmt.Sprintf("{cluster=\"a\"} => 1 @[%d]\n{cluster=\"b\"} => 1 @[%[1]d]\n", end.Unix()),
		run("query", "instant", "--time="+at, s.URL, "sum by (cluster) (up)"))
	require.Equal(t, fmt.Sprintf("requests_total{cluster=\"a\", code=\"200\"} =>\n%d @[%d]\n%d @[%d]\n", 3*(samples-3), s.at(samples-3).Unix(), 3*(samples-1), end.Unix()),
		run("query", "range", "--start="+s.at(samples-3).UTC().Format(time.RFC3339), "--end="+at, "--step=30s", s.URL, `requests_total{cluster="a"}`))
	require.Equal(t, "{__name__=\"up\", cluster=\"b\", instance=\"two:9100\", job=\"node\"}\n", run("query", "series", `--match=up{job="node"}`, s.URL))
	require.Equal(t, "node\nprometheus\n", run("query", "labels", s.URL, "job"))
}

// TestRealPrometheusReadsThrough asks a Prometheus that has nothing but remote_read to promkeep: the distribution's, and one of the
// engine's release, which must give every bit.
func TestRealPrometheusReadsThrough(t *testing.T) {
	s := serve(t)
	config := fmt.Sprintf("remote_read:\n- url: %s/api/v1/read\n  read_recent: true\n", s.URL)
	ask := func(t *testing.T, base, query string) answer {
		t.Helper()
		resp, err := http.Get(base + "/api/v1/query_range?" + url.Values{
			"query": {query}, "start": {unix(s.at(20))}, "end": {unix(s.at(samples - 1))}, "step": {"60"},
		}.Encode())
		require.NoError(t, err)
		return read(t, resp)
	}
	compare := func(t *testing.T, addr string, queries ...string) {
		for _, query := range append(queries,
			"up",
			"sum by (cluster) (up)",
			`requests_total{cluster=~"a|c"} offset 3m`,
			`up{job!="node"} * on (cluster) group_left (code) requests_total`,
			"max_over_time(sum(requests_total)[10m:1m])",
			"absent(nothing)",
		) {
			there, here := ask(t, addr, query), ask(t, s.URL, query)
			require.Equal(t, 200, there.code, there.body)
			require.Empty(t, there.Warnings)
			require.Equal(t, string(here.Data), string(there.Data), query)
			require.Greater(t, len(here.Data), 100, query)
		}
	}
	t.Run("the distribution's", func(t *testing.T) {
		compare(t, startPrometheus(t, config), "round(rate(requests_total[5m]), 1e-9)") // The old engine adds up in another order.
	})
	t.Run("the engine's release", func(t *testing.T) {
		compare(t, startProgram(t, peerProgram(t), config), "rate(requests_total[5m])", "sum(rate(requests_total[7m]))",
			"avg_over_time(requests_total[3m])", "stddev by (cluster) (requests_total)", "deriv(requests_total[10m])")
	})
}

// startPrometheus runs Debian's Prometheus with the configuration until the test ends, and returns its address once it is
// ready.
func startPrometheus(t *testing.T, config string) string {
	t.Helper()
	return startProgram(t, program(t, "prometheus"), config)
}

// startProgram does the same with a program of a given path, and more flags.
func startProgram(t *testing.T, program, config string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	var out bytes.Buffer
	cmd := exec.Command(program, append([]string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + addr, "--log.level=warn"}, flags...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // It may have ended already.
		<-ended
		if t.Failed() {
			t.Logf("prometheus said:\n%s", &out)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return "http://" + addr
			}
		}
		select {
		case err := <-ended:
			ended <- err
			require.FailNow(t, "prometheus ended", "%v\n%s", err, &out)
		case <-ctx.Done():
			require.FailNow(t, "prometheus is not ready after three minutes")
		case <-time.After(50 * time.Millisecond): // It has no other way to say so.
		}
	}
}
