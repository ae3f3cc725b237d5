package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// outageVariable says how long the faults of these tests last, such as 10m; otherwise it is as short as shows what it has to.
const outageVariable = "PROMKEEP_TEST_OUTAGE"

func outage(t testing.TB, short time.Duration) time.Duration {
	t.Helper()
	if testing.Short() {
		t.Skip("a fault under load takes its time")
	}
	text := os.Getenv(outageVariable)
	if text == "" {
		return short
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, outageVariable)
	return d
}

// boundedArgs keep the bounds low, so that memory which is not bounded shows.
var boundedArgs = []string{"--write.max-in-flight-size", "32MiB", "--storage.log.queue-size", "8MiB", "--storage.head.cache-size", "16MiB", "--storage.flush-interval", "5s"}

const (
	warmUp = 8 * time.Second
	// flat is how much memory may differ between before and during a fault: what the bounds above allow, and garbage that is not
	// collected yet.
	flat = 64 << 20
	// plateau is how much more it may be in the last quarter of the fault than in the second: nothing goes on growing. A heap of 16 MiB
	// grows to twice that before it is collected, and the cache by 0.1 MiB a second.
	plateau = 16 << 20
	soon    = 30 * time.Second // full speed again; on a machine that does nothing else it is less than three
)

// faultUnderLoad makes a fault while senders write, and repairs it after d. Meanwhile memory stays what it was; then the speed comes
// back; and all that was acknowledged is there once, also after promkeep is killed.
func faultUnderLoad(t *testing.T, p *process, again func() *process, d time.Duration, begin, repair func(), during func(l *load)) {
	t.Helper()
	l := startLoad(t, p)
	defer l.abandon()
	time.Sleep(warmUp / 2)
	before := l.rate(warmUp / 2)
	base := watch(t, p, time.Second, 1)[0]
	require.Greater(t, before, 1.0, "the senders do not get going")

	begin()
	acked, refused := l.acked.Load(), l.refused.Load()
	parts := watch(t, p, d, 4)
	acked, refused = l.acked.Load()-acked, l.refused.Load()-refused
	if during != nil {
		during(l)
	}
	t.Logf("before: %.0f requests/s, %d MiB; during %v: %d acknowledged, %d refused, in each quarter at most %v MiB",
		before, base>>20, d, acked, refused, mib(parts))
	for _, most := range parts {
		require.Less(t, most, base+flat, "memory grows: %v MiB, %d before", mib(parts), base>>20)
	}
	require.Less(t, parts[3], parts[1]+plateau, "memory goes on growing: %v MiB, %d before", mib(parts), base>>20)

	repair()
	took := l.recovery(before)
	after := watch(t, p, 2*time.Second, 1)[0]
	t.Logf("full speed again %v after the repair, %d MiB; %d answers were 503, %d connections broke", took.Round(100*time.Millisecond), after>>20, l.refused.Load(), l.broken.Load())
	require.Less(t, took, soon)
	require.Less(t, after, base+2*flat)
	l.stop()
	l.check(p)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
	<-p.exited // killed
	l.check(again())
}

func mib(list []int64) []int64 {
	out := make([]int64, len(list))
	for i, n := range list {
		out[i] = n >> 20
	}
	return out
}

// TestDatabaseAwayUnderLoad: PostgreSQL is stopped while senders write. They get 503 with Retry-After, queries of recent samples are
// answered, and when it is back all goes on.
func TestDatabaseAwayUnderLoad(t *testing.T) {
	d := outage(t, 20*time.Second)
	t.Parallel()
	server := pgtest.NewServer(t)
	args := append([]string{"--db.uri", server.NewDB(t).URI}, boundedArgs...)
	p := start(t, freePort(t), nil, args...).ready(t)
	again := func() *process { return start(t, freePort(t), nil, args...).ready(t) }
	faultUnderLoad(t, p, again, d, func() {
		server.Stop(t)
		time.Sleep(time.Second) // what was under way
	}, func() { server.Start(t) }, func(l *load) {
		acked, refused := l.acked.Load(), l.refused.Load()
		resp, err := http.Post(p.url+"/api/v1/write", "application/x-protobuf", strings.NewReader(string(encode(t))))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
		require.NotEmpty(t, matrix(t, p.url, `load_total{i="0"}[1h]`, time.UnixMilli(l.begin).Add(time.Hour)))
		require.Eventually(t, func() bool { return l.refused.Load() > refused }, time.Minute, 10*time.Millisecond)
		require.Equal(t, acked, l.acked.Load(), "acknowledged without a database")
	})
}

// TestSlowDatabaseUnderLoad: everything that goes to PostgreSQL takes a while longer, then nothing arrives any more, without an
// error. Senders are slowed down.
func TestSlowDatabaseUnderLoad(t *testing.T) {
	d := outage(t, 12*time.Second)
	t.Parallel()
	for _, c := range []struct {
		name string
		hold bool
	}{{"slow", false}, {"held up", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.NewServer(t)
			direct := server.NewDB(t).URI
			way, uri := newProxy(t, direct)
			p := start(t, freePort(t), nil, append([]string{"--db.uri", uri}, boundedArgs...)...).ready(t)
			again := func() *process {
				return start(t, freePort(t), nil, append([]string{"--db.uri", direct}, boundedArgs...)...).ready(t)
			}
			faultUnderLoad(t, p, again, d, func() {
				if c.hold {
					way.hold()
				} else {
					way.delay.Store(int64(500 * time.Millisecond))
				}
			}, func() {
				if c.hold {
					way.release()
				} else {
					way.delay.Store(0)
				}
			}, func(l *load) {
				if c.hold {
					acked := l.acked.Load()
					time.Sleep(time.Second)
					require.Equal(t, acked, l.acked.Load(), "acknowledged without a database")
				} else {
					// A commit takes half a second: of the ten requests a second of each sender one or two are left.
					slowed := l.rate(3 * time.Second)
					require.Positive(t, slowed)
					require.Less(t, slowed, 3.0*loadSenders)
				}
			})
		})
	}
}

// TestDiskFullUnderLoad: the disk of PostgreSQL gets full, and has room again later. Besides refused writes this may end the server,
// which is started again.
func TestDiskFullUnderLoad(t *testing.T) {
	d := outage(t, 15*time.Second)
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system to fill")
	}
	t.Parallel()
	dir := dataDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512m,mode=0755"); err != nil {
		t.Skipf("no file system to fill: mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	args := append([]string{"--data-dir", filepath.Join(dir, "data")}, boundedArgs...)
	p := start(t, freePort(t), nil, args...).ready(t)
	ballast := filepath.Join(dir, "ballast")
	free := func() int64 {
		var fs syscall.Statfs_t
		require.NoError(t, syscall.Statfs(dir, &fs))
		return int64(fs.Bavail) * fs.Bsize
	}
	faultUnderLoad(t, p, func() *process { return start(t, freePort(t), nil, args...).ready(t) }, d, func() {
		f, err := os.Create(ballast)
		require.NoError(t, err)
		defer f.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := f.Write(buf); err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				break
			}
		}
	}, func() {
		require.NoError(t, os.Remove(ballast))
		require.Positive(t, free())
	}, func(l *load) {
		require.Positive(t, l.refused.Load(), "nothing was refused although the disk is full: %d bytes free", free())
		resp, err := http.Get(p.url + "/-/healthy")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
	})
}
