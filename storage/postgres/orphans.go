package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// orphanPoll is how often a process that is not our child is looked at: nobody signals its end to us.
	orphanPoll = 20 * time.Millisecond

	orphanFastShutdown = time.Minute      // for a fast shutdown, which writes a checkpoint
	orphanImmediate    = 10 * time.Second // for everything more forceful
	orphanSelfExit     = 3 * time.Second  // for backends to notice that their server is gone
)

// process is a line of the process table.
type process struct {
	pid, ppid int
	args      string // the arguments, or the title a process gave itself, separated by spaces
}

// processes lists the processes whose arguments contain a string.
func processes(containing string) ([]process, error) {
	if !exists("/proc/self/cmdline") {
		return psProcesses(containing)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var list []process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		// A process may end at any time: what cannot be read any more is not there.
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.ReplaceAll(strings.TrimRight(string(cmdline), "\x00"), "\x00", " ")
		if err != nil || !strings.Contains(args, containing) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		// proc(5): "pid (comm) state ppid ..."; comm may contain anything, also parentheses.
		_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		ppid, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		list = append(list, process{pid: pid, ppid: ppid, args: args})
	}
	return list, nil
}

// psProcesses is processes where there is no /proc.
func psProcesses(containing string) ([]process, error) {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var list []process
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.Contains(line, containing) {
			continue
		}
		pid, err1 := strconv.Atoi(fields[0])
		ppid, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			list = append(list, process{pid: pid, ppid: ppid, args: strings.Join(fields[2:], " ")})
		}
	}
	return list, nil
}

// isPostmasterOf says whether a running process is the main process of a server on clusterDir. Its arguments can be
// read whoever runs it; its working directory, which is always the cluster directory, only with the right to trace it.
func isPostmasterOf(pid int, clusterDir string) (bool, error) {
	list, err := processes("postgres")
	if err != nil {
		return false, err
	}
	for _, p := range list {
		if p.pid != pid {
			continue
		}
		if strings.Contains(p.args+" ", "postgres -D "+clusterDir+" ") {
			return true, nil
		}
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		return err == nil && cwd == clusterDir && !strings.HasPrefix(p.args, "postgres: "), nil
	}
	return false, nil
}

// postmasterFile is what a server says about itself in postmaster.pid; the file is there as long as it runs, and
// stays behind when it is killed.
type postmasterFile struct {
	pid    int
	status string // "starting", "ready", "stopping", ...
}

// readPostmasterFile returns the zero value when there is none.
func readPostmasterFile(clusterDir string) (postmasterFile, error) {
	b, err := os.ReadFile(filepath.Join(clusterDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return postmasterFile{}, nil
	}
	if err != nil {
		return postmasterFile{}, err
	}
	lines := strings.Split(string(b), "\n")
	var f postmasterFile
	f.pid, _ = strconv.Atoi(strings.TrimSpace(lines[0])) // a file being written may still be empty
	f.pid = max(f.pid, -f.pid)                           // negative: a server in single-user mode
	if len(lines) > 7 {
		f.status = strings.TrimSpace(lines[7])
	}
	return f, nil
}

// orphans ends what is left of an earlier server on the same cluster directory. PostgreSQL refuses to start while
// any of it runs. The caller holds the lock of the data directory, so whatever runs there belongs to nobody.
type orphans struct {
	clusterDir  string
	clusterName string // starts the title of every server process
	socketDir   string // of this cluster's servers alone; "" until it is known
	log         *slog.Logger
}

func (o orphans) clear(ctx context.Context) error {
	f, err := readPostmasterFile(o.clusterDir)
	if err != nil {
		return err
	}
	if f.pid != 0 {
		ours, err := isPostmasterOf(f.pid, o.clusterDir)
		if err != nil {
			return err
		}
		if ours {
			o.log.Warn("A PostgreSQL server outlived the promkeep that started it: stopping it", "server_pid", f.pid)
			if err := o.stopPostmaster(ctx, f.pid); err != nil {
				return err
			}
		}
	}
	if err := o.stopBackends(ctx); err != nil {
		return err
	}
	if err := o.removeStale(filepath.Join(o.clusterDir, "postmaster.pid"), f.pid); err != nil {
		return err
	}
	return o.unlockSocket()
}

// unlockSocket removes the lock of the socket if it is stale. It stays behind as postmaster.pid does, and may do so alone: PostgreSQL removes
// that one when it does not start because of this one.
func (o orphans) unlockSocket() error {
	if o.socketDir == "" {
		return nil // not known yet
	}
	lock := filepath.Join(o.socketDir, socketName+".lock")
	b, err := os.ReadFile(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	return o.removeStale(lock, pid)
}

// removeStale removes a file in which a server that is gone has noted its process ID, if PostgreSQL would take that for one that runs: another
// program has the number now, as happens after a restart of a container, or nobody has asked yet how the killed server ended.
func (o orphans) removeStale(file string, pid int) error {
	if pid == 0 || pid == os.Getpid() || syscall.Kill(pid, 0) != nil {
		return nil
	}
	if ours, err := isPostmasterOf(pid, o.clusterDir); err != nil || ours {
		return errors.Join(err, fmt.Errorf("the PostgreSQL server with process ID %d on %s cannot be stopped", pid, o.clusterDir))
	}
	o.log.Info("Removing a stale file of a server that is gone", "file", file, "server_pid", pid)
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) { // a server that was just ending removes it itself
		return err
	}
	return nil
}

// stopPostmaster asks for a fast shutdown, then for an immediate one, then kills.
func (o orphans) stopPostmaster(ctx context.Context, pid int) error {
	running := func() (bool, error) { return isPostmasterOf(pid, o.clusterDir) }
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, orphanFastShutdown}, {syscall.SIGQUIT, orphanImmediate}, {syscall.SIGKILL, orphanImmediate}} {
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping the PostgreSQL server with process ID %d, which uses %s: %w", pid, o.clusterDir, err)
		}
		gone, err := waitGone(ctx, step.wait, running)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the PostgreSQL server with process ID %d on %s does not stop", pid, o.clusterDir)
}

// stopBackends waits for the processes of a killed server to notice that it is gone, and ends those that are too busy
// to. Nothing is lost by that: what they had not committed, the coming crash recovery undoes.
func (o orphans) stopBackends(ctx context.Context) error {
	running := func() (bool, error) {
		list, err := o.backends()
		return len(list) > 0, err
	}
	gone, err := waitGone(ctx, orphanSelfExit, running)
	if gone || err != nil {
		return err
	}
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		list, err := o.backends()
		if err != nil {
			return err
		}
		for _, p := range list {
			o.log.Warn("Ending a process that outlived its PostgreSQL server", "server_pid", p.pid, "title", p.args, "signal", signal.String())
			if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending process %d (%s): %w", p.pid, p.args, err)
			}
		}
		gone, err := waitGone(ctx, orphanImmediate, running)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("processes of an earlier PostgreSQL server on %s do not end", o.clusterDir)
}

// backends lists the processes with our title whose server is gone.
func (o orphans) backends() ([]process, error) {
	list, err := processes("postgres")
	if err != nil {
		return nil, err
	}
	servers := map[int]bool{}
	for _, p := range list {
		servers[p.pid] = strings.Contains(p.args, "postgres -D ")
	}
	var orphaned []process
	for _, p := range list {
		if strings.HasPrefix(p.args, "postgres: "+o.clusterName+": ") && !servers[p.ppid] {
			orphaned = append(orphaned, p)
		}
	}
	return orphaned, nil
}

// waitGone polls until running says no, for at most the given time.
func waitGone(ctx context.Context, atMost time.Duration, running func() (bool, error)) (bool, error) {
	deadline := time.NewTimer(atMost)
	defer deadline.Stop()
	tick := time.NewTicker(orphanPoll)
	defer tick.Stop()
	for {
		still, err := running()
		if err != nil || !still {
			return err == nil, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
