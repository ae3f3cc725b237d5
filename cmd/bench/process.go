package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// clockTick is the unit of CPU times in /proc, USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// Usage is what processes have used.
type Usage struct {
	CPU time.Duration
	// Memory is their proportional set size in bytes: what several share, such as PostgreSQL's shared memory, counts once.
	// Mapped is that part of it that is pages of files, which the kernel can drop.
	Memory, Mapped int64
}

// Tree is processes with all their descendants.
type Tree []int

type process struct {
	parent int
	cpu    time.Duration // of itself
	waited time.Duration // of children that have ended
}

// processTable reads /proc; see proc(5).
func processTable() (map[int]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	out := make(map[int]process, len(dirs))
	for _, file := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// "pid (comm) state ppid ..."; comm may contain anything, also parentheses.
		_, rest, ok := strings.Cut(string(raw[max(0, bytes.LastIndexByte(raw, ')')):]), " ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 15 {
			continue
		}
		ticks := func(i int) time.Duration {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			return time.Duration(n) * clockTick
		}
		parent, _ := strconv.Atoi(fields[1])
		out[pid] = process{parent, ticks(11) + ticks(12), ticks(13) + ticks(14)}
	}
	return out, nil
}

// members returns the processes of the tree that live.
func (t Tree) members(table map[int]process) []int {
	in := map[int]bool{}
	for _, pid := range t {
		if _, ok := table[pid]; ok {
			in[pid] = true
		}
	}
	for more := true; more; {
		more = false
		for pid, p := range table {
			if !in[pid] && in[p.parent] {
				in[pid], more = true, true
			}
		}
	}
	out := make([]int, 0, len(in))
	for pid := range in {
		out = append(out, pid)
	}
	return out
}

// CPU is the CPU time of the tree, its children that have ended included.
func (t Tree) CPU() (time.Duration, error) {
	table, err := processTable()
	if err != nil {
		return 0, err
	}
	members := t.members(table)
	if len(members) == 0 {
		return 0, fmt.Errorf("no process %v", []int(t))
	}
	var sum time.Duration
	for _, pid := range members {
		sum += table[pid].cpu + table[pid].waited
	}
	return sum, nil
}

// Usage is what the tree has used of the CPU, and uses of memory now. The memory of another user's processes can be seen by
// root alone.
func (t Tree) Usage() (u Usage, err error) {
	if u.CPU, err = t.CPU(); err != nil {
		return u, err
	}
	table, err := processTable()
	if err != nil {
		return u, err
	}
	for _, pid := range t.members(table) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if os.IsPermission(err) {
			return u, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		if err != nil {
			continue // it has ended meanwhile
		}
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) < 3 {
				continue
			}
			kB, _ := strconv.ParseInt(fields[1], 10, 64)
			switch fields[0] {
			case "Pss:":
				u.Memory += kB << 10
			case "Pss_File:":
				u.Mapped += kB << 10
			}
		}
	}
	return u, nil
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watch samples the memory of a tree until stop is called, which returns the greatest seen.
func (t Tree) watch(every time.Duration) (stop func() (Usage, error)) {
	var (
		peak  Usage
		seen  error
		end   = make(chan struct{})
		group sync.WaitGroup
	)
	look := func() {
		u, err := t.Usage()
		if err != nil {
			seen = err
		} else if u.Memory > peak.Memory {
			peak = u
		}
	}
	group.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			look()
			select {
			case <-end:
				return
			case <-ticker.C:
			}
		}
	})
	return func() (Usage, error) {
		close(end)
		group.Wait()
		look()
		if peak.Memory > 0 {
			return peak, nil
		}
		return peak, seen
	}
}

// diskUsage is how many bytes the files under dir take, those in a directory named by one of apart for themselves.
func diskUsage(dir string, apart ...string) (rest, log int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		size := info.Size()
		for _, name := range apart {
			if strings.Contains(path+"/", "/"+name+"/") {
				log += size
				return nil
			}
		}
		rest += size
		return nil
	})
	return rest, log, err
}

// onCPU is the CPU time of the main threads of the tree's living processes, to the nanosecond, which the times of CPU are
// not; processes of PostgreSQL have one thread.
func (t Tree) onCPU() (sum time.Duration, err error) {
	table, err := processTable()
	if err != nil {
		return 0, err
	}
	for _, pid := range t.members(table) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		first, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
