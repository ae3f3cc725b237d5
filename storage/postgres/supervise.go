package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	readyPoll = 10 * time.Millisecond
	// A start that takes longer than this is most likely a crash recovery, which is said again at this interval.
	slowStart = 10 * time.Second

	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// stableAfter is how long a server must have run for the next restart to be prompt again.
	stableAfter = time.Minute

	logGrace = 2 * time.Second
)

// postmaster is one run of the server's main process.
type postmaster struct {
	pid     int
	process *os.Process
	started time.Time
	exited  chan struct{} // closed when it has ended
	err     error         // how it ended; valid once exited is closed
}

func (pm *postmaster) hasExited() bool {
	select {
	case <-pm.exited:
		return true
	default:
		return false
	}
}

// signal does nothing when the process has ended.
func (pm *postmaster) signal(sig syscall.Signal) { _ = pm.process.Signal(sig) }

// run starts the server and its supervision. On an error neither is running any more.
func (s *Server) run(ctx context.Context) error {
	launched := make(chan error)
	go s.supervise(launched)
	if err := <-launched; err != nil {
		<-s.done
		return err
	}
	pm := s.current
	err := s.waitReady(ctx, pm)
	if err == nil {
		err = s.bootstrap(ctx)
	}
	if err == nil && s.establish() {
		return nil
	}
	var said string
	if pm.hasExited() {
		<-s.done // its last words are read by then
		said = s.logs.lastMessages()
		if err == nil {
			err = s.exitError(pm)
		}
	} else {
		said = s.logs.lastMessages() // later ones are about the shutdown
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), immediateShutdown)
		defer cancel()
		_ = s.Stop(stop) // the error that counts is err
		<-s.done
	}
	if said != "" {
		err = fmt.Errorf("%w\nPostgreSQL's last messages:\n%s", err, said)
	}
	return err
}

// establish makes every later end of the server a failure to recover from. It returns false when it has ended already.
func (s *Server) establish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.established = !s.current.hasExited()
	return s.established
}

// supervise starts the server process and, once Start has succeeded, starts it again whenever it dies. It reports the
// outcome of the first launch.
func (s *Server) supervise(launched chan<- error) {
	// The thread that starts a process must live as long as the process, see dieWithParent.
	runtime.LockOSThread()
	defer close(s.done)
	defer s.lock.unlock()
	defer s.logs.close(logGrace)
	defer s.removeSocketDir()

	cmd, err := s.launch()
	launched <- err
	backoff := minBackoff
	for err == nil && cmd != nil {
		pm := s.await(cmd)
		if time.Since(pm.started) > stableAfter {
			backoff = minBackoff
		}
		s.mu.Lock()
		again := s.established && !s.stopped
		s.mu.Unlock()
		if !again {
			return
		}
		s.log.Error("The PostgreSQL server died: starting it again", "err", s.exitError(pm), "delay", backoff)
		cmd, backoff = s.relaunch(backoff)
	}
}

// removeSocketDir leaves nothing outside of the data directory.
func (s *Server) removeSocketDir() {
	if filepath.Dir(s.socketDir) == s.opts.DataDir {
		return
	}
	if err := os.RemoveAll(s.socketDir); err != nil {
		s.log.Warn("Removing PostgreSQL's socket directory failed", "err", err)
	}
}

// relaunch starts the server again after a pause, as often as it takes. It returns nil once the server shall stop, and
// the pause before the next time.
func (s *Server) relaunch(backoff time.Duration) (*exec.Cmd, time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-s.stopping:
			timer.Stop()
			return nil, backoff
		}
		backoff = min(2*backoff, maxBackoff)
		err := s.orphans().clear(ctx)
		if err == nil {
			var cmd *exec.Cmd
			if cmd, err = s.launch(); err == nil {
				if cmd != nil {
					s.restarts.Add(1)
				}
				return cmd, backoff
			}
		}
		if ctx.Err() == nil {
			s.log.Error("Starting the PostgreSQL server again failed", "err", err, "delay", backoff)
		}
	}
}

// launch starts the server process and makes it the current one. It returns nil when the server shall stop.
func (s *Server) launch() (*exec.Cmd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, nil
	}
	// What is said here cannot be overridden in a configuration file.
	cmd := exec.Command(s.inst.program("postgres"), "-D", s.clusterDir, "-k", s.socketDir, "-p", strconv.Itoa(port),
		"-c", "cluster_name="+s.clusterName)
	cmd.Dir = s.clusterDir
	cmd.Env = serverEnv()
	cmd.Stdout, cmd.Stderr = s.logs.w, s.logs.w
	cmd.SysProcAttr = s.as.attr()
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.current = &postmaster{pid: cmd.Process.Pid, process: cmd.Process, started: time.Now(), exited: make(chan struct{})}
	return cmd, nil
}

// await waits for the current server process to end.
func (s *Server) await(cmd *exec.Cmd) *postmaster {
	err := cmd.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.err = err
	close(s.current.exited)
	return s.current
}

// exitError says how a server process ended.
func (s *Server) exitError(pm *postmaster) error {
	if pm.err != nil {
		return fmt.Errorf("PostgreSQL server (process ID %d): %w", pm.pid, pm.err)
	}
	return fmt.Errorf("PostgreSQL server (process ID %d) was shut down by somebody else", pm.pid)
}

// waitReady returns once the server accepts connections. It looks where pg_ctl looks: at the last line of
// postmaster.pid.
func (s *Server) waitReady(ctx context.Context, pm *postmaster) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	slow := time.NewTicker(slowStart)
	defer slow.Stop()
	for {
		f, err := readPostmasterFile(s.clusterDir)
		if err != nil {
			return err
		}
		if f.pid == pm.pid && f.status == "ready" {
			return nil
		}
		select {
		case <-tick.C:
		case <-slow.C:
			s.log.Info("The PostgreSQL server is still starting; after a crash it recovers first", "for", time.Since(pm.started).Round(time.Second))
		case <-pm.exited:
			return s.exitError(pm)
		case <-ctx.Done():
			return fmt.Errorf("the PostgreSQL server did not get ready in time: %w", context.Cause(ctx))
		}
	}
}
