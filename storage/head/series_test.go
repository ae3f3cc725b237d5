package head

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/series"
)

// TestSizes: what is there a million times stays as large as it was meant to be.
func TestSizes(t *testing.T) {
	require.EqualValues(t, 128, unsafe.Sizeof(Series{}), "two cache lines")
	require.EqualValues(t, 64, unsafe.Offsetof(Series{}.mu), "appending needs the second")
	require.EqualValues(t, blockBytes, unsafe.Sizeof(block{}))
	require.LessOrEqual(t, unsafe.Sizeof(Spelling{}), uintptr(48))
}

// TestAnyOrder: whatever order samples come in, with flushes that succeed and that fail in between, a view is what a map of them
// would be.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		h := New()
		s := h.Tenant(1).Add(key(1), 1, lset(1), 0)
		unflushed, flushing, base := map[int64]float64{}, map[int64]float64{}, int64(1_700_000_000_000)
		check := func() {
			mint, maxt := int64(math.MinInt64), int64(math.MaxInt64)
			if r.IntN(2) == 0 {
				mint, maxt = base-int64(r.IntN(100)), base+int64(r.IntN(100))
			}
			var want []Sample
			for at, v := range unflushed {
				if at >= mint && at <= maxt {
					want = append(want, Sample{at, v})
				}
			}
			slices.SortFunc(want, func(a, b Sample) int { return int(a.T/2 - b.T/2) })
			got := s.View(mint, maxt).Samples
			require.Equal(t, len(want), len(got))
			for i := range got {
				require.Equal(t, unflushed[got[i].T], got[i].V)
				require.True(t, i == 0 || got[i].T > got[i-1].T)
			}
			if len(unflushed) > 0 {
				lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
				for at := range unflushed {
					lo, hi = min(lo, at), max(hi, at)
				}
				a, b := s.tenant.Bounds()
				require.Equal(t, []int64{lo, hi}, []int64{a, b})
				require.True(t, s.Overlaps(lo, lo))
				require.False(t, s.Overlaps(hi+1, math.MaxInt64))
			}
		}
		late := r.IntN(2) == 0
		for i := range 200 {
			switch x := r.IntN(40); {
			case x == 0: // a flush
				h.Advance()
				if r.IntN(2) == 0 { // a sample of the next epoch comes before the series is reached
					base++
					h.Append(s, base, 0, float64(i))
					flushing[base] = float64(i)
				}
				clear := map[int64]float64{}
				for at, v := range unflushed {
					clear[at] = v
				}
				require.NoError(t, h.Flushing(func(_ *Series, samples []Sample, _ map[int64]int64, _ []series.Histogram) ([]Row, error) {
					require.Equal(t, len(clear), len(samples))
					for _, x := range samples {
						require.Equal(t, clear[x.T], x.V)
					}
					return nil, nil
				}))
				committed := r.IntN(2) == 0
				if committed {
					unflushed = map[int64]float64{}
				}
				for at, v := range flushing {
					unflushed[at] = v
				}
				flushing = map[int64]float64{}
				h.Flushed(1, committed)
			case x == 1:
				base += 1 << 40 // further than a block can tell
			}
			at := base + 15
			switch x := r.IntN(10); {
			case late && x == 0:
				at -= int64(r.IntN(1000))
			case late && x == 1:
				at -= 1 << 33
			case x == 2:
				at = base // the same again
			}
			base = max(base, at)
			h.Append(s, at, 0, float64(i))
			unflushed[at] = float64(i)
			if r.IntN(5) == 0 {
				check()
			}
		}
		check()
		h.Advance()
		require.NoError(t, h.Flushing(func(*Series, []Sample, map[int64]int64, []series.Histogram) ([]Row, error) { return nil, nil }))
		h.Flushed(1, true)
		require.Zero(t, h.UnflushedBytes())
		require.Nil(t, s.View(math.MinInt64, math.MaxInt64).Samples)
		n := 0
		for _, w := range h.blocks.free {
			n += bits.OnesCount64(w)
		}
		require.Equal(t, n, h.blocks.spare)
		require.Equal(t, len(*h.blocks.slabs.Load())*slabBlocks-1, n, "all blocks are free again")
	}
}

// BenchmarkAppend appends to series as scrapes do, and flushes after 40 samples of each.
func BenchmarkAppend(b *testing.B) {
	h := New()
	tenant := h.Tenant(1)
	all := make([]*Series, 100_000)
	for i := range all {
		all[i] = tenant.Add(key(i), uint64(i), lset(i), 0)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		for i, s := range all {
			if i%32 == 0 {
				h.Soon(all[i:min(i+32, len(all))])
			}
			h.Append(s, int64(n)*15_000, 0, float64(n))
		}
		if n%40 == 0 {
			h.Advance()
			_ = h.Flushing(func(*Series, []Sample, map[int64]int64, []series.Histogram) ([]Row, error) { return nil, nil })
			h.Flushed(1, true)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(all)), "ns/sample")
}
