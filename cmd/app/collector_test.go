package app

import (
	"context"
	"runtime"
	rt "runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGCPercent(t *testing.T) {
	require.Equal(t, 100, gcPercent(0))
	require.Equal(t, 100, gcPercent(freelyGrowing))
	require.Equal(t, 46, gcPercent(1400<<20))
	require.Greater(t, gcPercent(64<<30), 25)
	for live := uint64(1 << 20); live < 1<<36; live += live / 3 {
		require.GreaterOrEqual(t, gcPercent(live), gcPercent(live+live/3), "it never rises")
	}
}

// TestCollectSooner: the setting follows the live heap, and is put back.
func TestCollectSooner(t *testing.T) {
	t.Setenv("GOGC", "")
	before := rt.SetGCPercent(100)
	defer rt.SetGCPercent(before)
	percent := func() int {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return int(sample[0].Value.Uint64())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		collectSooner(ctx, 5*time.Millisecond)
		close(done)
	}()
	held := make([]byte, 2*freelyGrowing)
	runtime.GC()
	require.Eventually(t, func() bool { return percent() < 70 }, time.Minute, 20*time.Millisecond)
	runtime.KeepAlive(held)
	held = nil
	runtime.GC()
	runtime.GC()
	require.Eventually(t, func() bool { return percent() == 100 }, time.Minute, 20*time.Millisecond)
	cancel()
	<-done
	require.Equal(t, 100, percent())
}
