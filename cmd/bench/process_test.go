package bench

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A shell that runs a child to its end, and then lives on: what the child took must stay counted.
func TestTreeCountsChildrenThatHaveEnded(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done'; echo done; read wait`)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)

	got, err := Tree{cmd.Process.Pid}.Usage()
	require.NoError(t, err)
	require.Positive(t, got.Memory)
	self, err := processTable()
	require.NoError(t, err)
	require.Less(t, self[cmd.Process.Pid].cpu, got.CPU/2, "the work was done by the child")

	require.NoError(t, in.Close())
	_ = cmd.Wait()
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	children := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	require.InDelta(t, children.Seconds(), got.CPU.Seconds(), 0.1)

	_, err = Tree{cmd.Process.Pid}.CPU()
	require.Error(t, err, "the tree is gone")
}

// Memory that two processes share counts once.
func TestTreeCountsSharedMemoryOnce(t *testing.T) {
	const size = 64 << 20
	f, err := os.CreateTemp("/dev/shm", "promkeep-bench")
	if err != nil {
		t.Skip("no /dev/shm:", err)
	}
	defer os.Remove(f.Name())
	require.NoError(t, f.Truncate(size))
	shared, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(shared)) }()
	before, err := Tree{os.Getpid()}.Usage()
	require.NoError(t, err)
	for i := 0; i < size; i += 4096 {
		shared[i] = 1
	}
	after, err := Tree{os.Getpid(), os.Getpid()}.Usage()
	require.NoError(t, err)
	require.InDelta(t, size, after.Memory-before.Memory, size/4)
}

func TestDiskUsageTellsTheLogApart(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(dir+"/a/wal", 0o755))
	require.NoError(t, os.WriteFile(dir+"/a/data", make([]byte, 1<<20), 0o644))
	require.NoError(t, os.WriteFile(dir+"/a/wal/1", make([]byte, 2<<20), 0o644))
	rest, log, err := diskUsage(dir, "wal")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, rest)
	require.EqualValues(t, 2<<20, log)
}
