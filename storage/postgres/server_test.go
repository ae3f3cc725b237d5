package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestStartMakesADatabaseThatRestartsKeep(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	logs := &recorder{}
	srv := start(t, Options{DataDir: dir, Logger: logs.logger()})

	require.Equal(t, "promkeep promkeep", query1[string](t, srv.URI(), "SELECT current_user || ' ' || current_database()"))
	require.Equal(t, "off", query1[string](t, srv.URI(), "SHOW is_superuser"))
	require.Equal(t, "on", query1[string](t, srv.SuperURI(), "SHOW is_superuser"))
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"listen_addresses": "", "server_encoding": "UTF8", "lc_messages": "C", "jit": "off",
		"cluster_name": clusterNameFor(ClusterDir(dir)),
	} {
		require.Equal(t, want, query1[string](t, srv.SuperURI(), "SHOW "+setting), setting)
	}
	require.Contains(t, []string{"lz4", "pglz"}, query1[string](t, srv.URI(), "SHOW wal_compression"))
	require.Equal(t, "C", query1[string](t, srv.URI(), "SELECT datcollate FROM pg_database WHERE datname = current_database()"))
	require.Zero(t, query1[int](t, srv.SuperURI(), "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL"))
	fi, err := os.Stat(filepath.Join(dir, "run"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
	// A Ctrl-C at promkeep's terminal must not reach the server.
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(srv.PID()), 0, 0)
	require.Zero(t, errno)
	require.Equal(t, srv.PID(), int(session))

	exec1(t, srv.URI(), "CREATE TABLE kept AS SELECT 42 AS n")
	// A session that is open does not hold up the stop.
	connect(t, srv.URI())
	began := time.Now()
	stop(t, srv)
	require.Less(t, time.Since(began), time.Minute, "it would be two")
	requireCleanShutdown(t, srv.Installation(), dir)
	require.Zero(t, srv.PID())
	select {
	case <-srv.Done():
	default:
		t.Fatal("Done is open after Stop")
	}
	stop(t, srv) // again

	uri := srv.URI()
	srv = start(t, Options{DataDir: dir})
	require.Equal(t, uri, srv.URI())
	require.Equal(t, 42, query1[int](t, srv.URI(), "SELECT n FROM kept"))
	require.Zero(t, srv.Restarts())
	logs.require(t, "level=INFO", "database system is ready to accept connections", "severity=LOG")
	logs.require(t, "level=INFO", "database system is shut down")
}

func TestServerLogReachesOurs(t *testing.T) {
	t.Parallel()
	logs := &recorder{}
	srv := start(t, Options{DataDir: dataDir(t), Logger: logs.logger()})
	conn := connect(t, srv.URI())
	_, err := conn.Exec(t.Context(), "SELECT 1/0 -- first\n -- second")
	require.Error(t, err)
	logs.require(t, "level=WARN", "division by zero", "severity=ERROR", "sqlstate=22012", "session=promkeep@promkeep", `statement="SELECT 1/0 -- first\n -- second"`)
	_, err = conn.Exec(t.Context(), "DO $$ BEGIN RAISE WARNING 'careful' USING HINT = 'this way'; END $$")
	require.NoError(t, err)
	logs.require(t, "level=WARN", "msg=careful", "severity=WARNING", `hint="this way"`)

	_, err = pgx.Connect(t.Context(), srv.DatabaseURI("nobody_such", "promkeep"))
	require.Error(t, err)
	logs.require(t, "level=ERROR", "severity=FATAL", "nobody_such")
	stop(t, srv)
	logs.require(t, "level=INFO", "severity=FATAL", "sqlstate=57P01") // sessions ended by the shutdown are no failure
}

func TestSettingsOfOnesOwnWin(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir, MaxConnections: 33, Settings: map[string]string{"work_mem": "7MB", "application_name": `it's a \ test`}})
	require.Equal(t, "33", query1[string](t, srv.URI(), "SHOW max_connections"))
	require.Equal(t, "7MB", query1[string](t, srv.URI(), "SHOW work_mem"))
	require.Equal(t, `it's a \ test`, query1[string](t, srv.URI(), "SHOW application_name"))
	stop(t, srv)

	conf := filepath.Join(ClusterDir(dir), "postgresql.conf")
	f, err := os.OpenFile(conf, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("work_mem = '9MB'\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	srv = start(t, Options{DataDir: dir})
	require.Equal(t, "9MB", query1[string](t, srv.URI(), "SHOW work_mem"), "postgresql.conf is the user's")
	require.Equal(t, "100", query1[string](t, srv.URI(), "SHOW max_connections"), "promkeep.conf is rewritten")
}

func TestFailedStartCarriesTheServersOwnWords(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	_, err := Start(testContext(t), Options{DataDir: dir, Settings: map[string]string{"work_mem": "lots"}})
	require.ErrorContains(t, err, `invalid value for parameter "work_mem": "lots"`)

	_, err = Start(testContext(t), Options{DataDir: dir, Settings: map[string]string{"work_mem": "1MB\nfsync = off"}})
	require.ErrorContains(t, err, "line break")

	_, err = Start(testContext(t), Options{DataDir: dir, TimescaleDB: "maybe"})
	require.ErrorContains(t, err, "auto, on or off")

	_, err = Start(testContext(t), Options{})
	require.ErrorContains(t, err, "no data directory")

	// The directory is free again, and the cluster intact.
	srv := start(t, Options{DataDir: dir})
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT 1"))
}

func TestCancelledStartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, Options{DataDir: dir}))

	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	_, err := Start(ctx, Options{DataDir: dir})
	require.ErrorIs(t, err, context.Canceled)
	ours, err := processes("postgres -D " + ClusterDir(dir) + " ")
	require.NoError(t, err)
	require.Empty(t, ours)
	start(t, Options{DataDir: dir})
}

func TestLockedDataDirectory(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir})
	_, err := Start(testContext(t), Options{DataDir: dir})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("process ID %d", os.Getpid()))
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT 1"), "the running server is left alone")
	stop(t, srv)

	child := startChild(t, testBinary(t), dir, nil)
	_, err = Start(testContext(t), Options{DataDir: dir})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("process ID %d", child.cmd.Process.Pid))
}

func TestLongPathMovesTheSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), strings.Repeat("long/", 25))
	logs := &recorder{}
	srv := start(t, Options{DataDir: dir, Logger: logs.logger()})
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT 1"))
	logs.require(t, "level=WARN", "too long", "socket_dir="+srv.socketDir)
	fi, err := os.Stat(srv.socketDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
	require.Equal(t, srv.as.uid, ownerOf(srv.socketDir))
	stop(t, srv)
	require.NoDirExists(t, srv.socketDir, "what is outside of the data directory is taken away again")
}

// TestCommaInThePath: a comma parts the directories of PostgreSQL's sockets, and the hosts of a connection string.
func TestCommaInThePath(t *testing.T) {
	t.Parallel()
	srv := start(t, Options{DataDir: filepath.Join(dataDir(t), "a,b c")})
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT 1"))
	require.NotContains(t, srv.socketDir, ",")
	stop(t, srv)
	require.NoDirExists(t, srv.socketDir)
}

func TestPrivateDirTrustsNobodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of another user")
	}
	as, err := serverAccount("")
	require.NoError(t, err)
	dir := t.TempDir()

	theirs := filepath.Join(dir, "theirs")
	require.NoError(t, os.Mkdir(theirs, 0o700))
	require.NoError(t, os.Chown(theirs, as.uid+4711, -1))
	require.ErrorContains(t, privateDir(theirs, as), "belongs to another user")

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	require.ErrorContains(t, privateDir(link, as), "not a directory")

	open := filepath.Join(dir, "open")
	require.NoError(t, os.Mkdir(open, 0o777))
	require.NoError(t, privateDir(open, as))
	fi, err := os.Stat(open)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
	require.Equal(t, as.uid, ownerOf(open))
}

func TestUnsuitableDirectories(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	require.NoError(t, os.MkdirAll(ClusterDir(dir), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(ClusterDir(dir), "precious"), nil, 0o644))
	_, err := Start(testContext(t), Options{DataDir: dir})
	require.ErrorContains(t, err, "neither empty nor a PostgreSQL cluster")
	require.FileExists(t, filepath.Join(ClusterDir(dir), "precious"))

	// A cluster itself, not promkeep's data directory.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"), 0o644))
	_, err = Start(testContext(t), Options{DataDir: dir})
	require.ErrorContains(t, err, "data directory of its own")
}

func TestInterruptedInitStartsOver(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	half := ClusterDir(dir) + ".new"
	require.NoError(t, os.MkdirAll(filepath.Join(half, "base"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o644))
	srv := start(t, Options{DataDir: dir})
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT 1"))
	require.NoDirExists(t, half)
}

func TestClusterOfAnotherMajorVersion(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	require.NoError(t, os.MkdirAll(ClusterDir(dir), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(ClusterDir(dir), "PG_VERSION"), []byte("12\n"), 0o644))
	_, err := Start(testContext(t), Options{DataDir: dir})
	require.ErrorContains(t, err, "made by PostgreSQL 12")
	require.ErrorContains(t, err, "apt-get install postgresql-12")
	require.ErrorContains(t, err, "pg_upgrade")
}

func TestUnreachableDirectoryIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("started by an ordinary user, the server runs as that user")
	}
	closed := dataDir(t)
	require.NoError(t, os.Mkdir(closed, 0o700))
	_, err := Start(testContext(t), Options{DataDir: filepath.Join(closed, "deep", "data")})
	require.ErrorContains(t, err, `user "postgres", which may not enter `+closed+",")
	require.ErrorContains(t, err, "chmod o+x "+closed)
}

func TestUnknownAndRootUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can choose the user")
	}
	_, err := Start(testContext(t), Options{DataDir: dataDir(t), RunAs: "no-such-user"})
	require.ErrorContains(t, err, "no-such-user")
	_, err = Start(testContext(t), Options{DataDir: dataDir(t), RunAs: "root"})
	require.ErrorContains(t, err, "refuses to run")
}

func TestStartedByAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("every other test runs as an ordinary user")
	}
	t.Parallel()
	as, err := serverAccount("nobody")
	require.NoError(t, err)
	dir := dataDir(t)
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, as.own(dir))
	// The test binary is where only root gets at it.
	program := filepath.Join(filepath.Dir(dir), "promkeep-test")
	out, err := exec.Command("cp", testBinary(t), program).CombinedOutput()
	require.NoError(t, err, string(out))

	c := startChild(t, program, dir, &syscall.SysProcAttr{Credential: as.credential})
	require.Equal(t, as.uid, ownerOf(fmt.Sprintf("/proc/%d", c.pid)))
	exec1(t, c.uri, "CREATE TABLE kept AS SELECT 7 AS n")
	require.NoError(t, c.stdin.Close())
	require.NoError(t, c.cmd.Wait())
	inst, err := Find("")
	require.NoError(t, err)
	requireCleanShutdown(t, inst, dir)

	// Root can take the directory over.
	srv := start(t, Options{DataDir: dir})
	require.Equal(t, 7, query1[int](t, srv.URI(), "SELECT n FROM kept"))
	require.Equal(t, srv.as.uid, ownerOf(filepath.Join(ClusterDir(dir), "base")))
}
