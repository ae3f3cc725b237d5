package bench

import (
	"math"
	"sync/atomic"
	"time"
)

// latencies counts durations in buckets that are 2 % wide, from 10 µs to hours.
type latencies struct {
	buckets [1024]atomic.Uint64
	max     atomic.Int64
}

const bucketGrowth = 1.02

func (l *latencies) add(d time.Duration) {
	i := int(math.Log(max(1, d.Seconds()/10e-6)) / math.Log(bucketGrowth))
	l.buckets[min(i, len(l.buckets)-1)].Add(1)
	for {
		have := l.max.Load()
		if int64(d) <= have || l.max.CompareAndSwap(have, int64(d)) {
			return
		}
	}
}

// quantile returns a duration that a share q of all do not exceed, at most 2 % too great.
func (l *latencies) quantile(q float64) time.Duration {
	var all uint64
	for i := range l.buckets {
		all += l.buckets[i].Load()
	}
	rank, seen := uint64(math.Ceil(q*float64(all))), uint64(0)
	for i := range l.buckets {
		if seen += l.buckets[i].Load(); seen >= rank && seen > 0 {
			upper := time.Duration(10e3 * math.Pow(bucketGrowth, float64(i+1)))
			return min(upper, time.Duration(l.max.Load()))
		}
	}
	return 0
}
