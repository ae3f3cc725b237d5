package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/storage/postgres"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
)

// Server is a running PostgreSQL server with the settings of promkeep's embedded one.
type Server struct {
	inst postgres.Installation
	opts postgres.Options
	// apache says that only TimescaleDB's Apache edition works: its licence is a setting of the whole server.
	apache bool

	mu  sync.Mutex
	srv *postgres.Server // guarded by mu; nil while stopped
	// last is the latest server, running or not: its connection strings stay the same over restarts.
	last *postgres.Server // guarded by mu
}

// NewServer starts a server for this test alone, durable as in production (fsync on), on the default installation, or
// on one with TimescaleDB if an option asks for it. It is stopped, and its files are removed, when the test ends.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	o := collect(opts)
	for _, inst := range installed(t) {
		if o.edition != plain && !inst.HasTimescaleDB {
			continue
		}
		dir, err := newDataDir(inst, tempDir())
		if err != nil {
			t.Fatalf("pgtest: %s", err)
		}
		s := &Server{inst: inst, apache: o.edition == timescaleApache, opts: postgres.Options{
			DataDir: dir, BinDir: inst.BinDir, Logger: logger(), Settings: settings(o.edition == timescaleApache, o.settings),
		}}
		t.Cleanup(func() {
			if err := errors.Join(s.stop(), os.RemoveAll(dir)); err != nil {
				t.Errorf("pgtest: %s", err)
			}
		})
		s.Start(t)
		return s
	}
	t.Skip(noTimescale)
	return nil
}

// NewDB returns a fresh, empty database on this server.
func (s *Server) NewDB(t testing.TB, opts ...Option) *DB {
	t.Helper()
	ed := collect(opts).edition
	return s.newDB(t, ed, ed.template())
}

// Start starts a stopped server again, on the same files and under the same URIs.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("pgtest: %s", err)
	}
}

// Stop shuts the server down cleanly, ending all sessions. It stays down until Start.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Fatalf("pgtest: %s", err)
	}
}

// Restart is Stop and Start.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Kill9Postmaster kills the server's main process with SIGKILL. The supervision starts it again, which recovers it;
// WaitReady waits for that.
func (s *Server) Kill9Postmaster(t testing.TB) {
	t.Helper()
	srv := s.running()
	if srv == nil {
		t.Fatal("pgtest: the server is stopped")
	}
	pid := srv.PID()
	if pid == 0 {
		t.Fatal("pgtest: the server has died already")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("pgtest: killing the postmaster: %s", err)
	}
	// The signal is sent, not yet acted on: until then a WaitReady would find the old server.
	waitFor(t, "the postmaster's end", func() bool { return srv.PID() != pid })
}

// Kill9Backends kills all sessions' processes with SIGKILL, on which PostgreSQL ends everything and recovers.
func (s *Server) Kill9Backends(t testing.TB, db *DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.uri(postgres.Superuser, "postgres"))
	if err != nil {
		t.Fatalf("pgtest: %s", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", db.Name)
	if err != nil {
		t.Fatalf("pgtest: %s", err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatalf("pgtest: %s", err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("pgtest: killing a backend: %s", err)
		}
	}
}

// WaitReady returns when the server accepts connections.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	var last error
	waitFor(t, "the server to accept connections", func() bool {
		last = s.exec("SELECT")
		return last == nil
	})
}

// Restarts counts how often the supervision has started the server again since Start.
func (s *Server) Restarts() uint64 {
	if srv := s.running(); srv != nil {
		return srv.Restarts()
	}
	return 0
}

func waitFor(t testing.TB, what string, reached func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("pgtest: waited too long for %s", what)
		}
	}
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return errors.New("the server is running")
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	srv, err := postgres.Start(ctx, s.opts)
	if err != nil {
		return err
	}
	s.srv, s.last = srv, srv
	return nil
}

func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.srv.Stop(ctx)
	s.srv = nil
	return err
}

func (s *Server) running() *postgres.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv
}

func (s *Server) down() bool { return s.running() == nil }

func (s *Server) uri(role, database string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.DatabaseURI(role, database)
}

// logger shows what a server reports as a failure of its own, and all of its log on demand.
func logger() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("PROMKEEP_TEST_PG_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// shared are the servers that all tests of this process use.
var shared servers

type servers struct {
	fill func(context.Context, *DB) error // see M.Fill

	mu      sync.Mutex
	started map[serverKey]*sharedServer // guarded by mu
}

type serverKey struct {
	binDir string
	apache bool
}

type sharedServer struct {
	once sync.Once
	*Server
	err error

	mu     sync.Mutex
	filled map[edition]string // templates by kind; guarded by mu
}

// filledTemplate returns a database of which those are copies that fill is to have filled, and makes it the first time.
func (s *sharedServer) filledTemplate(ed edition, fill func(context.Context, *DB) error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := s.filled[ed]; name != "" {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	db := s.db(ed, fmt.Sprintf("pgtest_filled_%d", ed))
	if err := s.exec("DROP DATABASE IF EXISTS "+db.Name+" WITH (FORCE)", copyOf(ed.template(), db.Name)); err != nil {
		return "", err
	}
	if err := fill(ctx, db); err != nil {
		return "", err
	}
	if err := execAt(ctx, db.SuperURI, stopWorkers); err != nil {
		return "", err
	}
	if err := s.exec(
		"ALTER DATABASE "+db.Name+" WITH ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '"+db.Name+"'",
	); err != nil {
		return "", err
	}
	if s.filled == nil {
		s.filled = map[edition]string{}
	}
	s.filled[ed] = db.Name
	return db.Name, nil
}

// stopWorkers has TimescaleDB's scheduler leave the database for good: a template must have no sessions.
const stopWorkers = `DO $$ BEGIN
	IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
		PERFORM _timescaledb_functions.stop_background_workers();
	END IF;
END $$`

// server returns the running server of an installation.
func (ss *servers) server(inst postgres.Installation, apache bool) (*sharedServer, error) {
	key := serverKey{binDir: inst.BinDir, apache: apache}
	ss.mu.Lock()
	if ss.started == nil {
		ss.started = map[serverKey]*sharedServer{}
	}
	s := ss.started[key]
	if s == nil {
		s = &sharedServer{}
		ss.started[key] = s
	}
	ss.mu.Unlock()
	s.once.Do(func() {
		dir, err := newDataDir(inst, volatileDir())
		if err != nil {
			s.err = err
			return
		}
		s.Server = &Server{inst: inst, apache: apache, opts: postgres.Options{
			DataDir: dir, BinDir: inst.BinDir, Logger: logger(), MaxConnections: 300, Settings: settings(apache, sharedSettings()),
		}}
		s.err = s.start()
	})
	return s, s.err
}

// sharedSettings leave out what only a loss of power would show, and make room for many databases at once.
func sharedSettings() map[string]string {
	return map[string]string{
		"fsync":            "off",
		"full_page_writes": "off",
		"shared_buffers":   "128MB",
		// Each database with TimescaleDB has a scheduler of its own.
		"timescaledb.max_background_workers": "32",
		"max_worker_processes":               "48",
	}
}

// settings adds the licence to settings.
func settings(apache bool, s map[string]string) map[string]string {
	if apache {
		s = maps.Clone(s)
		if s == nil {
			s = map[string]string{}
		}
		s["timescaledb.license"] = "apache"
	}
	return s
}

func (ss *servers) stop() error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var errs []error
	for _, s := range ss.started {
		if s.Server == nil {
			continue
		}
		if err := s.Server.stop(); err != nil {
			errs = append(errs, fmt.Errorf("stopping a shared server: %w", err))
		}
		errs = append(errs, os.RemoveAll(s.opts.DataDir))
	}
	clear(ss.started)
	return errors.Join(errs...)
}
