package storage

import (
	"math"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promkeep/promkeep/storage/series"
)

// iterator implements chunkenc.Iterator over decoded samples.
type iterator struct {
	f    int     // next float
	next []int64 // timestamps of all floats, once no histogram is left before the next of them; then the sample at hand is that before f
	h    int     // next histogram
	kind chunkenc.ValueType
	t    int64 // of the sample at hand, as long as next is nil
	set  series.Set
	err  error

	share *share // that counts held bytes for the set
	held  int64
}

func (i *iterator) reset() {
	i.f, i.h, i.next, i.kind, i.err = 0, 0, nil, chunkenc.ValNone, nil
	i.t = math.MinInt64
}

// Floats returns all samples, whatever was iterated over; ok is false if some are histograms or reading them failed. They may
// be used until the iterator is given to another series.
func (i *iterator) Floats() (t []int64, v []float64, ok bool) {
	return i.set.T, i.set.V, i.err == nil && len(i.set.Histograms) == 0
}

// Forget gives back to its query's budget what the iterator holds, and drops all but the memory for floats, for another query's series.
func (i *iterator) Forget() {
	i.reset()
	i.share.take(-i.held) //nolint:errcheck // Less is always allowed.
	i.share, i.held = nil, 0
	i.set.Reset()
	i.set.Histograms = nil
}

// Next implements chunkenc.Iterator.
func (i *iterator) Next() chunkenc.ValueType {
	// A scan is this line, so it writes nothing but the one number.
	if f := i.f; f < len(i.next) {
		i.f = f + 1
		return chunkenc.ValFloat
	}
	return i.nextOfAll()
}

func (i *iterator) nextOfAll() chunkenc.ValueType {
	switch {
	case i.err != nil:
		i.kind = chunkenc.ValNone
	case i.f < len(i.set.T) && (i.h >= len(i.set.Histograms) || i.set.T[i.f] < i.set.Histograms[i.h].T):
		i.kind, i.t = chunkenc.ValFloat, i.set.T[i.f]
		i.f++
		if i.h >= len(i.set.Histograms) {
			i.next = i.set.T
		}
	case i.h < len(i.set.Histograms):
		h := &i.set.Histograms[i.h]
		i.kind, i.t = chunkenc.ValHistogram, h.T
		if h.H == nil {
			i.kind = chunkenc.ValFloatHistogram
		}
		i.h++
	default:
		i.kind = chunkenc.ValNone
	}
	return i.kind
}

// Seek implements chunkenc.Iterator.
func (i *iterator) Seek(t int64) chunkenc.ValueType {
	if i.err != nil {
		return chunkenc.ValNone
	}
	if i.kind != chunkenc.ValNone && i.AtT() >= t {
		return i.kind
	}
	i.f = advance(i.f, len(i.set.T), func(n int) bool { return i.set.T[n] >= t })
	i.h = advance(i.h, len(i.set.Histograms), func(n int) bool { return i.set.Histograms[n].T >= t })
	return i.Next()
}

// advance finds the first place at or after from where ok holds; it looks nearby first, as steps of queries are short.
func advance(from, n int, ok func(int) bool) int {
	for k := from; k < n && k < from+8; k++ {
		if ok(k) {
			return k
		}
	}
	if from+8 >= n {
		return n
	}
	return from + 8 + sort.Search(n-from-8, func(k int) bool { return ok(from + 8 + k) })
}

// At implements chunkenc.Iterator.
func (i *iterator) At() (int64, float64) {
	f := i.f - 1
	return i.set.T[f], i.set.V[f]
}

// AtT implements chunkenc.Iterator.
func (i *iterator) AtT() int64 {
	if f := i.f - 1; uint(f) < uint(len(i.next)) {
		return i.next[f]
	}
	return i.t
}

// AtST implements chunkenc.Iterator.
func (i *iterator) AtST() int64 {
	if i.kind == chunkenc.ValFloat {
		if len(i.set.ST) == 0 {
			return 0
		}
		return i.set.ST[i.f-1]
	}
	return i.set.Histograms[i.h-1].ST
}

// AtHistogram implements chunkenc.Iterator.
func (i *iterator) AtHistogram(into *histogram.Histogram) (int64, *histogram.Histogram) {
	h := i.set.Histograms[i.h-1].H
	if into == nil {
		return i.t, h.Copy()
	}
	h.CopyTo(into)
	return i.t, into
}

// AtFloatHistogram implements chunkenc.Iterator.
func (i *iterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	x := &i.set.Histograms[i.h-1]
	if x.FH == nil {
		return i.t, x.H.ToFloat(into)
	}
	if into == nil {
		return i.t, x.FH.Copy()
	}
	x.FH.CopyTo(into)
	return i.t, into
}

// Err implements chunkenc.Iterator.
func (i *iterator) Err() error { return i.err }
