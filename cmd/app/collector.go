package app

import (
	"context"
	"math"
	"os"
	rt "runtime/debug"
	"runtime/metrics"
	"time"
)

// A heap may grow to twice what is live before garbage is collected, as Go has it, up to this many bytes of live heap; what
// is above may grow by a quarter only. A large heap of promkeep is series that stay, and little garbage comes with samples of known
// series, so collecting it sooner costs next to no CPU and spares hundreds of MiB.
const freelyGrowing = 384 << 20

// gcPercent is GOGC for a live heap of so many bytes.
func gcPercent(live uint64) int {
	if live <= freelyGrowing {
		return 100
	}
	room := freelyGrowing + (live-freelyGrowing)/4
	return int(math.Ceil(100 * float64(room) / float64(live)))
}

// collectSooner keeps GOGC as gcPercent says until ctx ends, unless the environment sets it.
func collectSooner(ctx context.Context, interval time.Duration) {
	if os.Getenv("GOGC") != "" {
		return
	}
	before := rt.SetGCPercent(100)
	defer rt.SetGCPercent(before)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for current := 100; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(sample)
		// Setting it stops the world for a moment, so small changes are left alone.
		if p := gcPercent(sample[0].Value.Uint64()); p > current+5 || p < current-5 || p == 100 && current != 100 {
			rt.SetGCPercent(p)
			current = p
		}
	}
}
