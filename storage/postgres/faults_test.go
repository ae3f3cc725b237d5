package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// waitConnected returns when the server accepts connections again.
func waitConnected(t *testing.T, uri string) {
	t.Helper()
	eventually(t, "the server to come back", func() bool {
		conn, err := pgx.Connect(t.Context(), uri)
		if err != nil {
			return false
		}
		return conn.Close(t.Context()) == nil
	})
}

// alive says whether a process runs. One that has ended but whose parent has not asked for its status has no arguments.
func alive(pid int) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(cmdline) > 0
}

func TestKilledPostmasterIsStartedAgain(t *testing.T) {
	t.Parallel()
	logs := &recorder{}
	srv := start(t, Options{DataDir: dataDir(t), Logger: logs.logger()})
	exec1(t, srv.URI(), "CREATE TABLE kept (n int)")
	for i := range 3 {
		exec1(t, srv.URI(), fmt.Sprintf("INSERT INTO kept VALUES (%d)", i))
		pid := srv.PID()
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, "a new server process", func() bool { return srv.PID() != pid && srv.PID() != 0 })
		waitConnected(t, srv.URI())
		require.Equal(t, i+1, query1[int](t, srv.URI(), "SELECT count(*) FROM kept"))
		require.Equal(t, uint64(i+1), srv.Restarts())
	}
	logs.require(t, "level=ERROR", "The PostgreSQL server died", "signal: killed")
	dir := srv.opts.DataDir
	stop(t, srv)
	requireCleanShutdown(t, srv.Installation(), dir)
}

// A backend that computes does not notice that its server is gone, and PostgreSQL refuses to start beside it.
func TestBusyBackendOfAKilledPostmasterIsEnded(t *testing.T) {
	t.Parallel()
	logs := &recorder{}
	srv := start(t, Options{DataDir: dataDir(t), Logger: logs.logger(), Settings: map[string]string{"client_connection_check_interval": "0"}})
	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 5 AS n")
	conn := connect(t, srv.URI())
	busy := int(conn.PgConn().PID())
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "DO $$ BEGIN LOOP END LOOP; END $$")
		done <- err
	}()
	eventually(t, "the query to run", func() bool {
		return query1[string](t, srv.SuperURI(), fmt.Sprintf("SELECT state FROM pg_stat_activity WHERE pid = %d", busy)) == "active"
	})
	pid := srv.PID()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "a new server process", func() bool { return srv.PID() != pid && srv.PID() != 0 })
	require.False(t, alive(busy))
	require.Error(t, <-done)
	waitConnected(t, srv.URI())
	require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
	logs.require(t, "level=WARN", "outlived its PostgreSQL server", fmt.Sprintf("server_pid=%d", busy))
	require.EqualValues(t, 1, srv.Restarts())
}

func TestKilledBackendRecovers(t *testing.T) {
	t.Parallel()
	srv := start(t, Options{DataDir: dataDir(t)})
	conn := connect(t, srv.URI())
	pid := srv.PID()
	require.NoError(t, syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL))
	_, err := conn.Exec(testContext(t), "SELECT 1")
	require.Error(t, err)
	waitConnected(t, srv.URI())
	require.Equal(t, pid, srv.PID(), "PostgreSQL recovers from that by itself")
	require.Zero(t, srv.Restarts())
}

func TestStopWhileRestarting(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	require.NoError(t, syscall.Kill(srv.PID(), syscall.SIGKILL))
	stop(t, srv)
	require.Zero(t, srv.PID())
	require.NotRegexp(t, `Database cluster state:\s+shut down\n`, controlData(t, srv.Installation(), dir))

	stop(t, start(t, Options{DataDir: dir})) // recovers, and frees the shared memory that the killed server left
	requireCleanShutdown(t, srv.Installation(), dir)
}

func TestStopEndsAServerThatDoesNotListen(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for all the patience of Stop, some ten seconds")
	}
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 5 AS n")
	require.NoError(t, syscall.Kill(srv.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, srv.Stop(ctx), "took too long")

	srv = start(t, Options{DataDir: dir})
	require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
}

func TestServerEndsWithAKilledPromkeep(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	c := startChild(t, testBinary(t), dir, nil)
	exec1(t, c.uri, "CREATE TABLE kept AS SELECT 5 AS n")
	require.NoError(t, c.cmd.Process.Kill())
	require.Error(t, c.cmd.Wait())

	srv := start(t, Options{DataDir: dir}) // at once: the server may still be shutting down
	require.NotEqual(t, c.pid, srv.PID())
	require.False(t, alive(c.pid))
	require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
}

// Where the kernel does not tell a server of its promkeep's end, or when an administrator started one by hand.
func TestForeignPostmasterOnOurDirectoryIsStopped(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 5 AS n")
	stop(t, srv)

	for name, args := range map[string][]string{
		"as promkeep": {"-D", ClusterDir(dir), "-k", srv.socketDir, "-p", strconv.Itoa(port)},
		"by hand":     {"-k", srv.socketDir, "-p", strconv.Itoa(port), "-D", ClusterDir(dir)},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(srv.inst.program("postgres"), args...)
			cmd.Dir = ClusterDir(dir)
			cmd.Env = serverEnv()
			cmd.SysProcAttr = srv.as.attr()
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			waitConnected(t, srv.URI())

			logs := &recorder{}
			again := start(t, Options{DataDir: dir, Logger: logs.logger()})
			require.NoError(t, <-ended, "a clean shutdown")
			require.NotEqual(t, cmd.Process.Pid, again.PID())
			require.Equal(t, 5, query1[int](t, again.URI(), "SELECT n FROM kept"))
			logs.require(t, "level=WARN", "outlived", fmt.Sprintf("server_pid=%d", cmd.Process.Pid))
			stop(t, again)
		})
	}
}

// After a restart of a machine or a container another program may have the number of the killed server.
func TestStalePostmasterFileOfAReusedProcessID(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 5 AS n")
	file := filepath.Join(ClusterDir(dir), "postmaster.pid")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	lock := filepath.Join(srv.socketDir, socketName+".lock")
	locked, err := os.ReadFile(lock)
	require.NoError(t, err)
	stop(t, srv)

	other := exec.Command("sleep", "600")
	other.SysProcAttr = srv.as.attr()
	require.NoError(t, other.Start())
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	pid := other.Process.Pid
	_, rest, _ := strings.Cut(string(content), "\n")
	require.NoError(t, writeFile(file, fmt.Sprintf("%d\n%s", pid, rest), srv.as))

	srv = start(t, Options{DataDir: dir})
	require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
	require.True(t, alive(pid), "a process that is not ours is left alone")
	stop(t, srv)

	// The lock of its socket, with the other file and alone.
	_, restLocked, _ := strings.Cut(string(locked), "\n")
	for _, both := range []bool{true, false} {
		if both {
			require.NoError(t, writeFile(file, fmt.Sprintf("%d\n%s", pid, rest), srv.as))
		}
		require.NoError(t, writeFile(lock, fmt.Sprintf("%d\n%s", pid, restLocked), srv.as))
		srv = start(t, Options{DataDir: dir})
		require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
		stop(t, srv)
	}
	require.True(t, alive(pid))
}

// TestServerKilledTogetherWithItsPromkeep: until init asks for its status, the killed server is there as a zombie.
func TestServerKilledTogetherWithItsPromkeep(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 5 AS n")
	lock, err := os.ReadFile(filepath.Join(srv.socketDir, socketName+".lock"))
	require.NoError(t, err)
	file, err := os.ReadFile(filepath.Join(ClusterDir(dir), "postmaster.pid"))
	require.NoError(t, err)
	stop(t, srv)

	zombie := exec.Command("true")
	zombie.SysProcAttr = srv.as.attr()
	require.NoError(t, zombie.Start())
	t.Cleanup(func() { _ = zombie.Wait() })
	pid := zombie.Process.Pid
	eventually(t, "the process to end", func() bool { return !alive(pid) })
	require.NoError(t, syscall.Kill(pid, 0))
	for name, content := range map[string][]byte{filepath.Join(srv.socketDir, socketName+".lock"): lock, filepath.Join(ClusterDir(dir), "postmaster.pid"): file} {
		_, rest, _ := strings.Cut(string(content), "\n")
		require.NoError(t, writeFile(name, fmt.Sprintf("%d\n%s", pid, rest), srv.as))
	}
	srv = start(t, Options{DataDir: dir})
	require.Equal(t, 5, query1[int](t, srv.URI(), "SELECT n FROM kept"))
}
