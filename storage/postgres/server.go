package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// TimescaleDB says whether the embedded server uses TimescaleDB.
type TimescaleDB string

const (
	TimescaleAuto TimescaleDB = "auto" // when the server has it; the zero value means the same
	TimescaleOn   TimescaleDB = "on"   // fail to start without it
	TimescaleOff  TimescaleDB = "off"
)

// Options of an embedded server. Only DataDir is needed.
type Options struct {
	DataDir string       // promkeep's data directory, made if missing
	BinDir  string       // server binaries; "" searches as Find does
	Logger  *slog.Logger // gets the server's log too; nil discards

	TimescaleDB    TimescaleDB
	MaxConnections int    // 100 if 0
	RunAs          string // user of the server when promkeep runs as root; DefaultUser if ""

	// Settings are PostgreSQL settings that override promkeep's own choice.
	Settings map[string]string
}

// Server is an embedded PostgreSQL server that is kept running until Stop.
type Server struct {
	opts        Options
	log         *slog.Logger
	inst        Installation
	as          account
	clusterDir  string
	socketDir   string
	clusterName string
	timescale   bool // the library is preloaded
	lock        *dirLock
	logs        *logForwarder

	restarts atomic.Uint64
	stopping chan struct{} // closed by the first Stop
	done     chan struct{} // closed when the server is down for good and the data directory is free

	mu          sync.Mutex
	established bool        // guarded by mu; Start has succeeded, an exit is followed by a restart
	stopped     bool        // guarded by mu; stopping is closed
	current     *postmaster // guarded by mu; the latest server process, nil before the first
}

// Start makes the cluster on first use, starts the server and returns once it accepts connections and the database
// "promkeep" is there. ctx bounds the start alone; a crash recovery may take minutes on a large database.
//
// Errors wrap ErrNoInstallation or ErrLocked where that is the cause. Others name the directory, process or setting
// at fault and carry what the server logged last.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	switch opts.TimescaleDB {
	case "":
		opts.TimescaleDB = TimescaleAuto
	case TimescaleAuto, TimescaleOn, TimescaleOff:
	default:
		return nil, fmt.Errorf("TimescaleDB is %q, want auto, on or off", opts.TimescaleDB)
	}
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 100
	}
	s := &Server{opts: opts, log: log, stopping: make(chan struct{}), done: make(chan struct{})}
	if err := s.prepareDir(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.unlock()
		}
	}()
	if err := s.prepareCluster(ctx); err != nil {
		return nil, err
	}
	if s.logs, err = newLogForwarder(log); err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// prepareDir makes and locks the data directory.
func (s *Server) prepareDir() error {
	if s.opts.DataDir == "" {
		return errors.New("no data directory given for the embedded PostgreSQL server")
	}
	dir, err := filepath.Abs(s.opts.DataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	// The server calls its directory by its real name, and is recognised by that.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if exists(filepath.Join(dir, "PG_VERSION")) {
		return fmt.Errorf("%s is a PostgreSQL cluster: promkeep needs a data directory of its own "+
			"(or, with --db.uri, the running server of that cluster)", dir)
	}
	s.opts.DataDir, s.clusterDir = dir, ClusterDir(dir)
	s.clusterName = clusterNameFor(s.clusterDir)
	s.lock, err = lockDir(filepath.Join(dir, "promkeep.lock"))
	return err
}

// prepareCluster brings everything into the state in which the server can be started.
func (s *Server) prepareCluster(ctx context.Context) error {
	major, err := clusterMajor(s.clusterDir)
	if err != nil {
		return err
	}
	if s.inst, err = installationFor(major, s.clusterDir, s.opts.BinDir); err != nil {
		return err
	}
	if s.as, err = serverAccount(s.opts.RunAs); err != nil {
		return err
	}
	if err := s.as.checkReach(s.inst, s.opts.DataDir); err != nil {
		return err
	}
	s.timescale = s.inst.HasTimescaleDB && s.opts.TimescaleDB != TimescaleOff
	if s.opts.TimescaleDB == TimescaleOn && !s.timescale {
		return fmt.Errorf("TimescaleDB is asked for, but the PostgreSQL %s in %s does not have it "+
			"(no timescaledb.so in %s, or no timescaledb.control in %s/extension)",
			s.inst.Version, s.inst.BinDir, s.inst.LibDir, s.inst.ShareDir)
	}
	if err := s.orphans().clear(ctx); err != nil {
		return err
	}
	if major == 0 {
		if err := initCluster(ctx, s.inst, s.as, s.clusterDir, s.log); err != nil {
			return err
		}
	}
	if err := s.as.ownTree(s.clusterDir); err != nil {
		return err
	}
	if s.socketDir, err = makeSocketDir(s.opts.DataDir, s.clusterName, s.as, s.log); err != nil {
		return err
	}
	if err := s.orphans().unlockSocket(); err != nil {
		return err
	}
	settings := tunedSettings(thisMachine(), s.opts.MaxConnections, s.timescale, func(setting, value string) bool {
		return s.inst.supports(ctx, s.as, s.clusterDir, setting, value)
	})
	maps.Copy(settings, s.opts.Settings)
	return writeConfig(s.clusterDir, s.as, settings)
}

func (s *Server) orphans() orphans {
	return orphans{clusterDir: s.clusterDir, clusterName: s.clusterName, socketDir: s.socketDir, log: s.log}
}

// Installation is what the server runs from.
func (s *Server) Installation() Installation { return s.inst }

// HasTimescaleDB says that the TimescaleDB extension is in the promkeep database.
func (s *Server) HasTimescaleDB() bool { return s.timescale }

// URI is a connection string to the database "promkeep" as its owner, an ordinary role.
func (s *Server) URI() string { return s.DatabaseURI("promkeep", "promkeep") }

// SuperURI is a connection string to the database "promkeep" as superuser, for administration only.
func (s *Server) SuperURI() string { return s.DatabaseURI(Superuser, "promkeep") }

// DatabaseURI is a connection string to any database as any role. It contains no secret: the directory of the socket
// keeps others out.
func (s *Server) DatabaseURI(role, database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{
		"host": {s.socketDir}, "port": {strconv.Itoa(port)}, "user": {role}, "sslmode": {"disable"},
	}.Encode()}
	return u.String()
}

// Restarts counts how often the server died and was started again.
func (s *Server) Restarts() uint64 { return s.restarts.Load() }

// Done is closed when the server is down for good, after Stop.
func (s *Server) Done() <-chan struct{} { return s.done }

// PID is the process ID of the server's main process, 0 when it is not running.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.hasExited() {
		return 0
	}
	return s.current.pid
}

// Immediate shutdown takes no checkpoint, so it is quick; a killed server is recovered like one that lost power.
const (
	fastShutdown      = 2 * time.Minute
	immediateShutdown = 10 * time.Second
)

// Stop shuts the server down: fast, that is ending sessions and writing a checkpoint, until ctx or two minutes are
// over, then immediately, then by force. The error says that the fast way did not succeed; nothing is lost then, the
// next start recovers. Further calls wait for the same end.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	if first {
		s.stopped = true
		close(s.stopping)
	}
	pm := s.current
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fastShutdown)
	defer cancel()
	if first && pm != nil {
		pm.signal(syscall.SIGINT)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	var late error
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		late = fmt.Errorf("PostgreSQL's fast shutdown took too long, ended by %s; the next start will recover: %w", sig, context.Cause(ctx))
		if pm != nil {
			s.log.Warn("PostgreSQL does not stop in time: ending it", "server_pid", pm.pid, "signal", sig.String())
			pm.signal(sig)
		}
		timer := time.NewTimer(immediateShutdown)
		defer timer.Stop()
		select {
		case <-s.done:
			return late
		case <-timer.C:
		}
	}
	return errors.Join(late, errors.New("the PostgreSQL server still runs after having been killed"))
}
