package series

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

// TestMergeTakesTheLastAcceptedOfEachTimestamp compares with a map that the runs are written to in order of their versions.
func TestMergeTakesTheLastAcceptedOfEachTimestamp(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 2000 {
		type value struct {
			v  float64
			st int64
			h  bool
		}
		want := map[int64]value{}
		var runs []Run
		apart := random.IntN(3) == 0
		for version := range random.IntN(6) {
			start := random.Int64N(60)
			if apart {
				start = int64(version) * 100
			}
			run := Run{Version: int64(version)}
			withST, histograms := random.IntN(3) == 0, round%4 == 0
			for i := range random.Int64N(20) {
				at := start + i*random.Int64N(2) + i
				if n := len(run.T); n > 0 && at <= run.T[n-1] {
					continue
				}
				if n := len(run.Histograms); n > 0 && at <= run.Histograms[n-1].T {
					continue
				}
				if histograms && random.IntN(2) == 0 && len(run.T) == 0 {
					run.Histograms = append(run.Histograms, Histogram{T: at, H: tsdbutil.GenerateTestHistogram(int64(version))})
					want[at] = value{v: float64(version), h: true}
					continue
				}
				if len(run.Histograms) > 0 {
					continue
				}
				v := value{v: float64(version*1000) + float64(i)}
				run.T, run.V = append(run.T, at), append(run.V, v.v)
				if withST {
					v.st = at - 5
					run.ST = append(run.ST, v.st)
				}
				want[at] = v
			}
			runs = append(runs, run)
		}
		random.Shuffle(len(runs), func(i, k int) { runs[i], runs[k] = runs[k], runs[i] })
		var set Set
		Merge(&set, runs)
		got := map[int64]value{}
		for i, at := range set.T {
			v := value{v: set.V[i]}
			if len(set.ST) > 0 {
				require.Len(t, set.ST, len(set.T))
				v.st = set.ST[i]
			}
			got[at] = v
		}
		for _, h := range set.Histograms {
			_, twice := got[h.T]
			require.False(t, twice, "a float and a histogram at %d", h.T)
			got[h.T] = value{v: float64(h.H.Count-tsdbutil.GenerateTestHistogram(0).Count) / float64(tsdbutil.GenerateTestHistogram(1).Count-tsdbutil.GenerateTestHistogram(0).Count), h: true}
		}
		require.True(t, slices.IsSorted(set.T))
		require.True(t, slices.IsSortedFunc(set.Histograms, func(a, b Histogram) int { return cmp.Compare(a.T, b.T) }))
		require.True(t, maps.Equal(want, got), "want %v\ngot  %v", want, got)
	}
}

// TestRehint: a hint speaks of the sample before, whichever run that came from.
func TestRehint(t *testing.T) {
	at := func(ts int64, n int64, hint histogram.CounterResetHint) Histogram {
		h := tsdbutil.GenerateTestHistogram(n)
		h.CounterResetHint = hint
		return Histogram{T: ts, H: h}
	}
	var set Set
	// 1 and 3 were neighbours in a row; 2, a peak between them, came late.
	Merge(&set, []Run{
		{Version: 1, Histograms: []Histogram{at(1, 1, histogram.UnknownCounterReset), at(3, 2, histogram.NotCounterReset)}},
		{Version: 2, Histograms: []Histogram{at(2, 9, histogram.UnknownCounterReset)}},
	})
	set.Rehint()
	require.Equal(t, histogram.UnknownCounterReset, set.Histograms[0].H.CounterResetHint)
	require.Equal(t, histogram.NotCounterReset, set.Histograms[1].H.CounterResetHint)
	require.Equal(t, histogram.UnknownCounterReset, set.Histograms[2].H.CounterResetHint, "3 is a reset after 2")
}
