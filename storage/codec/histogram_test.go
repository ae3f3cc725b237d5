package codec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

var staleHistogram = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}

// histogramCases are series that make Prometheus cut or recode chunks. They
// are short enough that it does not cut one for its size.
func histogramCases() map[string][]*histogram.Histogram {
	grow := func(n int) []*histogram.Histogram {
		h := tsdbutil.GenerateTestHistograms(n)
		for i := 1; i < n; i++ {
			h[i].CounterResetHint = histogram.UnknownCounterReset
		}
		return h
	}
	withHint := func(h *histogram.Histogram, hint histogram.CounterResetHint) *histogram.Histogram {
		h = h.Copy()
		h.CounterResetHint = hint
		return h
	}
	reset := append(grow(5), grow(4)...)
	explicit := grow(8)
	explicit[4].CounterResetHint = histogram.CounterReset
	schema := grow(8)
	for _, h := range schema[5:] {
		h.Schema = 2
	}
	threshold := grow(8)
	for _, h := range threshold[2:] {
		h.ZeroThreshold = 0.25
	}
	appear := grow(8)
	for _, h := range appear[3:] {
		h.PositiveSpans = append([]histogram.Span(nil), h.PositiveSpans...)
		h.PositiveSpans[len(h.PositiveSpans)-1].Length++
		h.PositiveBuckets = append(append([]int64(nil), h.PositiveBuckets...), 3)
		h.Count = observations(h)
	}
	gauges := tsdbutil.GenerateTestGaugeHistograms(7)
	mixed := append(grow(3), tsdbutil.GenerateTestGaugeHistograms(3)...)
	staleInside := grow(8)
	staleInside[3] = staleHistogram
	staleEnd := append(grow(4), staleHistogram)
	staleFirst := append([]*histogram.Histogram{staleHistogram}, grow(4)...)
	custom := tsdbutil.GenerateTestCustomBucketsHistograms(8)
	for _, h := range custom {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	customBounds := tsdbutil.GenerateTestCustomBucketsHistograms(8)
	for _, h := range customBounds[4:] {
		h.CustomValues = []float64{0, 2, 3, 4, 7}
	}
	vanish := []*histogram.Histogram{appear[6], withHint(appear[7], histogram.UnknownCounterReset), grow(1)[0]}
	return map[string][]*histogram.Histogram{
		"grow": grow(8), "reset": reset, "explicitReset": explicit, "schema": schema, "zeroThreshold": threshold,
		"bucketsAppear": appear, "bucketsVanish": vanish, "gauge": gauges, "counterThenGauge": mixed,
		"staleInside": staleInside, "staleEnd": staleEnd, "staleFirst": staleFirst,
		"customBuckets": custom, "customBoundsChange": customBounds, "single": grow(1),
		"onlyStale": {staleHistogram, staleHistogram},
	}
}

// observations counts what is in the buckets.
func observations(h *histogram.Histogram) uint64 {
	n := h.ZeroCount
	for _, buckets := range [][]int64{h.PositiveBuckets, h.NegativeBuckets} {
		inBucket := int64(0)
		for _, delta := range buckets {
			inBucket += delta
			n += uint64(inBucket)
		}
	}
	return n
}

func toFloat(h []*histogram.Histogram) []*histogram.FloatHistogram {
	fh := make([]*histogram.FloatHistogram, len(h))
	for i := range h {
		fh[i] = h[i].ToFloat(nil)
	}
	return fh
}

func copies(h []*histogram.Histogram) []*histogram.Histogram {
	c := make([]*histogram.Histogram, len(h))
	for i := range h {
		c[i] = h[i].Copy()
	}
	return c
}

// throughTSDB writes histograms to a Prometheus database and reads them back.
func throughTSDB(t *testing.T, ts []int64, h []*histogram.Histogram, fh []*histogram.FloatHistogram) (c Histograms) {
	t.Helper()
	opts := tsdb.DefaultOptions()
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	app := db.Appender(t.Context())
	lset := labels.FromStrings("__name__", "h")
	for i := range ts {
		if h != nil {
			_, err = app.AppendHistogram(0, lset, ts[i], h[i].Copy(), nil)
		} else {
			_, err = app.AppendHistogram(0, lset, ts[i], nil, fh[i].Copy())
		}
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "h"))
	require.True(t, set.Next())
	it := set.At().Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValHistogram {
			at, h := it.AtHistogram(nil)
			c.T, c.H = append(c.T, at), append(c.H, h.Copy())
		} else {
			at, fh := it.AtFloatHistogram(nil)
			c.T, c.FH = append(c.T, at), append(c.FH, fh.Copy())
		}
	}
	require.NoError(t, it.Err())
	return c
}

func requireSameHistograms(t *testing.T, want, got *Histograms, hints bool) {
	t.Helper()
	require.Equal(t, want.T, got.T)
	require.Len(t, got.H, len(want.H))
	require.Len(t, got.FH, len(want.FH))
	for i, h := range want.H {
		require.Truef(t, h.Equals(got.H[i]), "sample %d: %v, want %v", i, got.H[i], h)
		require.Equal(t, math.Float64bits(h.Sum), math.Float64bits(got.H[i].Sum))
		if hints {
			require.Equalf(t, h.CounterResetHint, got.H[i].CounterResetHint, "hint of sample %d", i)
		}
	}
	for i, h := range want.FH {
		require.Truef(t, h.Equals(got.FH[i]), "sample %d: %v, want %v", i, got.FH[i], h)
		require.Equal(t, math.Float64bits(h.Sum), math.Float64bits(got.FH[i].Sum))
		if hints {
			require.Equalf(t, h.CounterResetHint, got.FH[i].CounterResetHint, "hint of sample %d", i)
		}
	}
}

func TestHistogramsComeBackAsFromPrometheus(t *testing.T) {
	for name, h := range histogramCases() {
		ts := steps(1700000000000, len(h), func(int) int64 { return 15000 })
		t.Run(name, func(t *testing.T) {
			before := copies(h)
			row, err := AppendHistograms([]byte("prefix"), ts, nil, h)
			require.NoError(t, err)
			require.Equal(t, "prefix", string(row[:6]))
			require.Equal(t, len(before), len(h))
			for i := range h {
				require.True(t, before[i].Equals(h[i]), "the input is left alone")
			}
			var got Histograms
			require.NoError(t, got.Decode(row[6:]))
			want := throughTSDB(t, ts, h, nil)
			requireSameHistograms(t, &want, &got, true)
			require.Empty(t, got.ST)
			n, err := Count(row[6:])
			require.NoError(t, err)
			require.Equal(t, len(ts), n)
			mint, maxt, err := Bounds(row[6:])
			require.NoError(t, err)
			require.Equal(t, [2]int64{ts[0], ts[len(ts)-1]}, [2]int64{mint, maxt})
		})
		t.Run(name+"/float", func(t *testing.T) {
			fh := toFloat(h)
			row, err := AppendFloatHistograms(nil, ts, nil, fh)
			require.NoError(t, err)
			var got Histograms
			require.NoError(t, got.Decode(row))
			want := throughTSDB(t, ts, nil, fh)
			requireSameHistograms(t, &want, &got, true)
		})
	}
}

func TestHistogramsOfLongSeriesRangesAndStarts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	h := tsdbutil.GenerateTestHistograms(3000)
	for i := range h {
		h[i].CounterResetHint = histogram.UnknownCounterReset
		if i%97 == 96 {
			h[i] = staleHistogram
		}
	}
	ts := kindsOfTime["jitter"](r, len(h))
	for startName, starts := range kindsOfStart {
		if startName == "any" {
			continue // chunkenc keeps differences of start timestamps that fit in 63 bits
		}
		st := starts(r, ts)
		row, err := AppendHistograms(nil, ts, st, h)
		require.NoError(t, err)
		frow, err := AppendFloatHistograms(nil, ts, st, toFloat(h))
		require.NoError(t, err)
		want := Histograms{T: ts, H: h}
		var got, fgot Histograms
		require.NoError(t, got.Decode(row))
		require.NoError(t, fgot.Decode(frow))
		requireSameHistograms(t, &want, &got, false)
		requireSameHistograms(t, &Histograms{T: ts, FH: toFloat(h)}, &fgot, false)
		if allZero(st) {
			require.Empty(t, got.ST)
		} else {
			require.Equal(t, st, got.ST)
			require.Equal(t, st, fgot.ST)
		}
		for range 50 {
			lo := r.IntN(len(h))
			hi := lo + r.IntN(len(h)-lo)
			got.Reset()
			require.NoError(t, got.DecodeRange(row, ts[lo], ts[hi]))
			requireSameHistograms(t, &Histograms{T: ts[lo : hi+1], H: h[lo : hi+1]}, &got, false)
			if !allZero(st) {
				require.Equal(t, st[lo:hi+1], got.ST)
			}
			metas, err := AppendChunks(nil, row, ts[lo], ts[hi])
			require.NoError(t, err)
			require.LessOrEqual(t, metas[0].MinTime, ts[lo])
			require.GreaterOrEqual(t, metas[len(metas)-1].MaxTime, ts[hi])
			require.Less(t, samplesOf(metas), hi-lo+1+2*histogramChunkSamples)
		}
	}
}

func samplesOf(metas []chunks.Meta) int {
	n := 0
	for _, m := range metas {
		n += m.Chunk.NumSamples()
	}
	return n
}

func TestHistogramsKeepResetsThroughMerging(t *testing.T) {
	h := histogramCases()["explicitReset"]
	ts := steps(0, len(h), func(int) int64 { return 15000 })
	row, err := AppendHistograms(nil, ts, nil, h)
	require.NoError(t, err)
	once := Histograms{KeepResets: true}
	require.NoError(t, once.Decode(row))
	require.Equal(t, histogram.CounterReset, once.H[4].CounterResetHint)
	again, err := AppendHistograms(nil, ts, nil, once.H)
	require.NoError(t, err)
	require.Equal(t, row, again)
}

func TestHistogramsThatCannotBeStored(t *testing.T) {
	h := tsdbutil.GenerateTestHistograms(3)
	h[2].PositiveBuckets = h[2].PositiveBuckets[1:]
	dst := []byte("x")
	dst, err := AppendHistograms(dst, []int64{1, 2, 3}, nil, h)
	require.ErrorContains(t, err, "histogram at 3")
	require.Equal(t, "x", string(dst))
	h = tsdbutil.GenerateTestHistograms(3)
	h[1].Schema = 100
	_, err = AppendHistograms(nil, []int64{1, 2, 3}, nil, h)
	require.ErrorContains(t, err, "histogram at 2")
	require.Panics(t, func() { _, _ = AppendHistograms(nil, []int64{1, 1, 3}, nil, h) })
	require.Panics(t, func() { _, _ = AppendHistograms(nil, []int64{1}, nil, h) })
}
