package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// binary is promkeep, built once for all tests of the package.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "promkeep-app")
	if err != nil {
		panic(err)
	}
	// The embedded PostgreSQL runs as another user when the tests run as root, and must get through to its files.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "promkeep")
	build := exec.Command("go", "build", "-o", binary, "../promkeep")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building promkeep: %v\n%s", err, out)
		os.Exit(1)
	}
	// Most tests wait for disks, for other programs and for time to pass. The command line's -parallel counts, if it is given.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// dataDir returns a directory for an embedded server.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "promkeep-data")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePort returns a port that nobody listens at, another one each time. It is none of those that the kernel gives to who asks for any, or it might
// have given it away before the program listens there, or while that is down.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_768) // by default Linux' own begin at 32768
		if _, taken := portsTaken.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}

var portsTaken sync.Map // ports

// process is a running promkeep.
type process struct {
	cmd    *exec.Cmd
	url    string
	log    *logBuffer
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs `promkeep serve` with the arguments, without waiting for it to be ready.
func start(t testing.TB, port int, env []string, args ...string) *process {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	p := &process{url: "http://" + address, log: &logBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(binary, append([]string{"serve", "--web.listen-address", address}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("log of promkeep (pid %d):\n%s", p.cmd.Process.Pid, p.log)
		}
	})
	return p
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop ends the process with SIGTERM and waits for it.
func (p *process) stop(t testing.TB) {
	if p.hasExited() {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(60 * time.Second):
		p.cmd.Process.Kill()
		t.Errorf("promkeep did not stop within a minute after SIGTERM")
		<-p.exited
	}
}

// ready waits until promkeep answers 200 at /-/ready.
func (p *process) ready(t testing.TB) *process {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if p.hasExited() {
			t.Fatalf("promkeep ended before it was ready: %v\n%s", p.err, p.log)
		}
		if resp, err := http.Get(p.url + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("promkeep was not ready within two minutes\n%s", p.log)
	return nil
}

// write sends one request of remote write 1.0 and returns the status and the body of the answer.
func (p *process) write(ctx context.Context, series ...prompb.TimeSeries) (int, string, error) {
	return p.send(ctx, prompb.WriteRequest{Timeseries: series})
}

func (p *process) send(ctx context.Context, req prompb.WriteRequest) (int, string, error) {
	raw, err := req.Marshal()
	if err != nil {
		return 0, "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// timeSeries makes a series of remote write; labels are names and values in turn, the first pair's name being __name__.
func timeSeries(samples []prompb.Sample, labels ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: samples}
	for i := 0; i < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return ts
}

// answer is what a Prometheus API says.
type answer struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
}

// get asks an API of Prometheus and returns the data of the answer.
func get(t testing.TB, base, path string, params url.Values) json.RawMessage {
	t.Helper()
	resp, err := http.Get(base + path + "?" + params.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var a answer
	require.NoError(t, json.Unmarshal(body, &a), "%s", body)
	require.Equal(t, "success", a.Status, "%s %s: %s", path, params, body)
	return a.Data
}

// matrix is what a range selector gives, by the labels as a JSON text.
func matrix(t testing.TB, base, query string, at time.Time) map[string][]prompb.Sample {
	t.Helper()
	data := get(t, base, "/api/v1/query", url.Values{"query": {query}, "time": {seconds(at)}})
	var result struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	require.NoError(t, json.Unmarshal(data, &result))
	out := map[string][]prompb.Sample{}
	for _, s := range result.Result {
		name, err := json.Marshal(s.Metric)
		require.NoError(t, err)
		for _, pair := range s.Values {
			v, err := strconv.ParseFloat(pair[1].(string), 64)
			require.NoError(t, err)
			out[string(name)] = append(out[string(name)], prompb.Sample{Timestamp: int64(pair[0].(float64)*1000 + 0.5), Value: v})
		}
	}
	return out
}

func seconds(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }

// postmaster returns the process ID of the embedded server in a data directory.
func postmaster(t testing.TB, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "postgres", "*", "postmaster.pid"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(dir, "postgres", "postmaster.pid"))
	require.NoError(t, err)
	files = append(files, more...)
	if len(files) == 0 {
		return 0
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	return pid
}

// metric returns a metric without labels from an exposition.
func metric(t testing.TB, body io.Reader, name string) float64 {
	t.Helper()
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			require.NoError(t, err)
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// sorted puts the series of an answer in order: the API gives them in none.
func sorted(t testing.TB, data json.RawMessage) string {
	t.Helper()
	var list []json.RawMessage
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		require.NoError(t, json.Unmarshal(data, &object))
		if json.Unmarshal(object["result"], &list) != nil {
			return string(data)
		}
	}
	texts := make([]string, len(list))
	for i, x := range list {
		texts[i] = string(x)
	}
	slices.Sort(texts)
	out := "[" + strings.Join(texts, ",") + "]"
	return out
}
