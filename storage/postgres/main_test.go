package postgres

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// childDir makes the test binary start a server on that data directory instead of running tests: a promkeep that a
// test can kill, or run as another user.
const childDir = "PROMKEEP_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// child starts a server, prints its URI and stops it when its standard input ends.
func child(dir string) int {
	signal.Ignore(syscall.SIGHUP)
	srv, err := Start(context.Background(), Options{DataDir: dir})
	if err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	fmt.Println("READY", srv.PID(), srv.URI())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := srv.Stop(context.Background()); err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	return 0
}

// childServer is a running child.
type childServer struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	pid   int // the postmaster's
	uri   string
}

func testBinary(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	return program
}

func startChild(t *testing.T, program, dir string, attr *syscall.SysProcAttr) *childServer {
	t.Helper()
	c := &childServer{cmd: exec.Command(program)}
	c.cmd.Env = append(os.Environ(), childDir+"="+dir)
	c.cmd.Dir = filepath.Dir(dir)
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = attr
	var err error
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		c.stdin.Close()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "READY %d %s", &c.pid, &c.uri)
	require.NoError(t, err, line)
	return c
}

// dataDir is a directory that, unlike t.TempDir's, every user can reach. It does not exist yet.
func dataDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("/tmp", "promkeep-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		// A server whose promkeep was killed writes until it has noticed.
		require.Eventually(t, func() bool { return os.RemoveAll(parent) == nil }, time.Minute, 10*time.Millisecond)
	})
	require.NoError(t, os.Chmod(parent, 0o755))
	return filepath.Join(parent, "data")
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start starts a server that is stopped when the test ends.
func start(t *testing.T, opts Options) *Server {
	t.Helper()
	srv, err := Start(testContext(t), opts)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, srv) })
	return srv
}

func stop(t *testing.T, srv *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	require.NoError(t, srv.Stop(ctx))
}

func connect(t *testing.T, uri string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), uri)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // a killed server's connection cannot close cleanly
	return conn
}

func exec1(t *testing.T, uri, sql string) {
	t.Helper()
	conn := connect(t, uri)
	_, err := conn.Exec(testContext(t), sql)
	require.NoError(t, err)
	require.NoError(t, conn.Close(testContext(t)))
}

func query1[T any](t *testing.T, uri, sql string) (v T) {
	t.Helper()
	conn := connect(t, uri)
	require.NoError(t, conn.QueryRow(testContext(t), sql).Scan(&v))
	require.NoError(t, conn.Close(testContext(t)))
	return v
}

// controlData is what pg_controldata says of a stopped cluster.
func controlData(t *testing.T, inst Installation, dir string) string {
	t.Helper()
	cmd := exec.Command(inst.program("pg_controldata"), ClusterDir(dir))
	cmd.Env = serverEnv()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func requireCleanShutdown(t *testing.T, inst Installation, dir string) {
	t.Helper()
	require.Regexp(t, `Database cluster state:\s+shut down\n`, controlData(t, inst, dir))
}

// eventually polls for what no signal tells.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// recorder is a slog.Handler that keeps the records.
type recorder struct {
	mu      sync.Mutex
	records []string // "LEVEL message key=value ..."
}

func (r *recorder) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, string(p))
	return len(p), nil
}

// find returns the first record that contains all the strings.
func (r *recorder) find(parts ...string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
next:
	for _, record := range r.records {
		for _, part := range parts {
			if !strings.Contains(record, part) {
				continue next
			}
		}
		return record, true
	}
	return "", false
}

func (r *recorder) require(t *testing.T, parts ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a log record with %q", parts), func() bool {
		_, found := r.find(parts...)
		return found
	})
}
