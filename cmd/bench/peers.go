package bench

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/storage/postgres"
)

// peer is a store that takes remote writes and answers PromQL.
type peer struct {
	name string
	// args are the command line, listening on the address and keeping data in dir.
	args func(address, dir string) []string
	// ready, writePath and queryPath are of its HTTP server.
	ready, writePath, queryPath string
	log                         []string // directories that hold its log
	// mark is called each time that markEvery of data time was sent; finish when all was, and brings everything to where it
	// stays. It may be nil.
	mark   func(ctx context.Context, r *running, at int64) error
	finish func(ctx context.Context, r *running, end int64) error
}

// markEvery is how much data time passes between two flushes of promkeep: its default flush interval.
const markEvery = 10 * time.Minute

// running is a peer that was started.
type running struct {
	peer
	url  string
	dir  string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // set when done is closed
}

func promkeepPeer(exe, timescale string) peer {
	return peer{
		name: "promkeep",
		args: func(address, dir string) []string {
			return []string{exe, "serve", "--web.listen-address", address, "--data-dir", dir, "--debug.clock", "--db.timescaledb", timescale}
		},
		ready: "/-/ready", writePath: "/api/v1/write", queryPath: "/api/v1/query", log: []string{"pg_wal"},
		mark: func(ctx context.Context, r *running, at int64) error {
			if err := r.clock(ctx, at); err != nil {
				return err
			}
			if err := r.post(ctx, "/debug/flush"); err != nil {
				return err
			}
			return r.post(ctx, "/debug/maintain")
		},
		finish: func(ctx context.Context, r *running, end int64) error {
			if err := r.clock(ctx, end); err != nil {
				return err
			}
			if err := r.post(ctx, "/debug/flush"); err != nil {
				return err
			}
			return r.settle(ctx, end)
		},
	}
}

func victoriaMetricsPeer(exe string) peer {
	return peer{
		name: "VictoriaMetrics",
		args: func(address, dir string) []string {
			return []string{exe, "-httpListenAddr=" + address, "-storageDataPath=" + dir, "-retentionPeriod=12", "-search.latencyOffset=0s",
				"-search.maxUniqueTimeseries=2000000", "-selfScrapeInterval=0"}
		},
		ready: "/health", writePath: "/api/v1/write", queryPath: "/api/v1/query",
		finish: func(ctx context.Context, r *running, _ int64) error {
			if _, err := r.get(ctx, "/internal/force_flush"); err != nil {
				return err
			}
			return r.quiet(ctx)
		},
	}
}

func prometheusPeer(exe string) peer {
	return peer{
		name: "Prometheus",
		args: func(address, dir string) []string {
			return []string{exe, "--web.listen-address=" + address, "--storage.tsdb.path=" + dir, "--web.enable-remote-write-receiver",
				"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--query.max-samples=500000000"}
		},
		ready: "/-/ready", writePath: "/api/v1/write", queryPath: "/api/v1/query", log: []string{"wal"},
		finish: func(ctx context.Context, r *running, _ int64) error { return r.quiet(ctx) },
	}
}

// prometheusConfig scrapes nothing; samples of a target may come late by as much as one flush of another store takes.
const prometheusConfig = "storage:\n  tsdb:\n    out_of_order_time_window: 30m\n"

// start runs a peer with an empty data directory under base, which is removed by stop.
func (p peer) start(ctx context.Context, base string) (*running, error) {
	dir := filepath.Join(base, strings.ToLower(p.name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(prometheusConfig), 0o644); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	args := p.args(address, dir)
	r := &running{peer: p, url: "http://" + address, dir: dir, cmd: exec.Command(args[0], args[1:]...), log: &tail{}, done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = dieWithParent()
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err = r.get(ctx, p.ready); err == nil {
			return r, nil
		}
		select {
		case <-r.done:
			return nil, fmt.Errorf("%s ended: %w\n%s", p.name, r.err, r.log)
		case <-ctx.Done():
			r.stop()
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("%s is not ready after a minute: %w\n%s", p.name, err, r.log)
		}
	}
}

func (r *running) tree() Tree { return Tree{r.cmd.Process.Pid} }

// stop ends the peer and removes its data.
func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
	_ = os.RemoveAll(r.dir)
}

func (r *running) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %s %s: %s: %s", r.name, method, path, resp.Status, bytes.TrimSpace(body[:min(len(body), 500)]))
	}
	return body, nil
}

func (r *running) get(ctx context.Context, path string) ([]byte, error) {
	return r.do(ctx, http.MethodGet, path)
}

func (r *running) post(ctx context.Context, path string) error {
	_, err := r.do(ctx, http.MethodPost, path)
	return err
}

func (r *running) clock(ctx context.Context, ms int64) error {
	return r.post(ctx, "/debug/clock?ms="+strconv.FormatInt(ms, 10))
}

// quiet waits until the peer takes less than a twentieth of a core for two seconds: its merges are done.
func (r *running) quiet(ctx context.Context) error {
	const step, need = 500 * time.Millisecond, 4
	last, err := r.tree().CPU()
	for calm := 0; calm < need && err == nil; {
		if err = sleep(ctx, step); err != nil {
			break
		}
		var now time.Duration
		if now, err = r.tree().CPU(); now-last > step/20 {
			calm = -1
		}
		calm++
		last = now
	}
	return err
}

// victoriaMerged waits until VictoriaMetrics says that no merge runs: where the machine is busy one may look quiet.
func (r *running) victoriaMerged(ctx context.Context) error {
	for {
		body, err := r.get(ctx, "/metrics")
		if err != nil {
			return err
		}
		found, active := 0, 0.0
		for line := range strings.Lines(string(body)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if name == "vm_active_force_merges" || strings.HasPrefix(name, "vm_active_merges{") {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return fmt.Errorf("%q: %w", line, err)
				}
				found++
				active += n
			}
		}
		if found < 2 {
			return errors.New("VictoriaMetrics does not say which merges run")
		}
		if active == 0 {
			return nil
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

//go:embed backdate.sql
var backdate string

//go:embed parts.sql
var partsLeft string

// settle makes promkeep merge all that was flushed into its long-term store, as it would in the course of a day: parts
// are made to look old, since their age is told by the database's clock.
func (r *running) settle(ctx context.Context, end int64) error {
	raw, err := os.ReadFile(filepath.Join(postgres.ClusterDir(r.dir), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) < 5 {
		return errors.New("postmaster.pid is cut short")
	}
	uri := url.URL{Scheme: "postgres", Path: "/promkeep", RawQuery: url.Values{
		"host": {strings.TrimSpace(lines[4])}, "port": {strings.TrimSpace(lines[3])}, "user": {postgres.Superuser}, "sslmode": {"disable"},
	}.Encode()}
	conn, err := pgx.Connect(ctx, uri.String())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return settle(ctx, conn, end, func(ms int64) error {
		if err := r.clock(ctx, ms); err != nil {
			return err
		}
		return r.post(ctx, "/debug/maintain")
	})
}

// settle has maintain called as of later and later times, until no part is left, and writes a checkpoint.
func settle(ctx context.Context, conn *pgx.Conn, end int64, maintain func(ms int64) error) error {
	const day = 24 * 3600_000
	// The end of the window; the end of the day, and time for late samples.
	for _, at := range []int64{end + 2*3600_000, end - end%day + day + 4*3600_000} {
		if _, err := conn.Exec(ctx, backdate); err != nil {
			return err
		}
		if err := maintain(at); err != nil {
			return err
		}
	}
	var left int
	if err := conn.QueryRow(ctx, partsLeft).Scan(&left); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d parts are still not merged", left)
	}
	_, err := conn.Exec(ctx, "CHECKPOINT")
	return err
}

// query returns the number that an instant query gives, 0 for an empty result.
func (r *running) query(ctx context.Context, expr string, ms int64) (float64, error) {
	q := url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)}, "nocache": {"1"}}
	raw, err := r.get(ctx, r.queryPath+"?"+q.Encode())
	if err != nil {
		return 0, err
	}
	var body struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return 0, err
	}
	if len(body.Data.Result) == 0 {
		return 0, nil
	}
	text, _ := body.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// verify counts all samples of the load by query.
func (r *running) verify(ctx context.Context, load Load) error {
	from := load.Start - 1000
	window := (load.End()-from)/1000 + 1
	var sum float64
	for _, name := range load.Names() {
		n, err := r.query(ctx, fmt.Sprintf("sum(count_over_time(%s[%ds]))", name, window), from+window*1000)
		if err != nil {
			return err
		}
		sum += n
	}
	if int(sum) != load.Samples() {
		return fmt.Errorf("%s has %s samples, %s were sent\n%s", r.name, count(int(sum)), count(load.Samples()), r.log)
	}
	return nil
}

// tail keeps the last lines that a process wrote.
type tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-4096):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}

// version is what a program says about its version, or the package that it is from.
func version(exe string, flag string) string {
	out, err := exec.Command(exe, flag).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err == nil && line != "" {
		return line
	}
	if out, err = exec.Command("dpkg-query", "-W", filepath.Base(exe)).Output(); err == nil {
		return "Debian's " + strings.Join(strings.Fields(string(out)), " ")
	}
	return "of unknown version"
}
