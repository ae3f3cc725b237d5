package series

import (
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/promkeep/promkeep/storage/codec"
)

// Histogram is a sample that holds either an integer or a float histogram; T and ST (start timestamp, 0 if unknown) in ms.
// It is not changed once made.
type Histogram struct {
	T, ST int64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Run is samples in order of time, one per timestamp: floats or histograms.
type Run struct {
	Version    int64   // of two runs with the same timestamp the one of the higher version counts
	T          []int64 // ms
	V          []float64
	ST         []int64 // start timestamps in ms; nil if there are none
	Histograms []Histogram
}

// Set is the samples of one series, floats and histograms, one per timestamp over both. The zero value is empty.
type Set struct {
	codec.Columns
	Histograms []Histogram
}

// Reset drops all samples and keeps the memory.
func (s *Set) Reset() {
	s.Columns.Reset()
	s.Histograms = s.Histograms[:0]
}

// Grow makes room for n more floats without start timestamps, so that those who hold many sets hold no more than they need.
func (s *Set) Grow(n int) {
	if n > 0 {
		s.T, s.V = slices.Grow(s.T, n), slices.Grow(s.V, n)
	}
}

// Append adds a run of floats that is younger than all that the set holds.
func (s *Set) Append(r Run) {
	s.T = append(s.T, r.T...)
	s.V = append(s.V, r.V...)
	if r.ST != nil || len(s.ST) > 0 {
		for len(s.ST) < len(s.T)-len(r.T) {
			s.ST = append(s.ST, 0)
		}
		s.ST = appendST(s.ST, r)
	}
}

// DropBefore removes all samples before t, in ms.
func (s *Set) DropBefore(t int64) {
	f := sort.Search(len(s.T), func(i int) bool { return s.T[i] >= t })
	h := sort.Search(len(s.Histograms), func(i int) bool { return s.Histograms[i].T >= t })
	s.T, s.V = slices.Delete(s.T, 0, f), slices.Delete(s.V, 0, f)
	if len(s.ST) > 0 {
		s.ST = slices.Delete(s.ST, 0, f)
	}
	s.Histograms = slices.Delete(s.Histograms, 0, h)
}

// Merge appends the samples of all runs to dst, in order and one per timestamp. dst must be empty. It sorts runs.
func Merge(dst *Set, runs []Run) {
	if slices.ContainsFunc(runs, func(r Run) bool { return len(r.Histograms) > 0 }) {
		mergeMixed(dst, runs)
		return
	}
	runs = slices.DeleteFunc(runs, func(r Run) bool { return len(r.T) == 0 })
	if len(runs) == 0 {
		return
	}
	withST := slices.ContainsFunc(runs, func(r Run) bool { return r.ST != nil })
	slices.SortStableFunc(runs, func(a, b Run) int {
		switch {
		case a.T[0] != b.T[0]:
			return compare(a.T[0], b.T[0])
		default:
			return compare(a.Version, b.Version)
		}
	})
	for i := 1; i < len(runs); i++ {
		if last := runs[i-1].T[len(runs[i-1].T)-1]; runs[i].T[0] <= last {
			overlay(dst, runs, withST)
			return
		}
	}
	for _, r := range runs {
		dst.Append(r)
	}
}

func appendST(dst []int64, r Run) []int64 {
	if r.ST != nil {
		return append(dst, r.ST...)
	}
	return append(dst, make([]int64, len(r.T))...)
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// overlay merges runs that overlap. It is rare, so it is simple.
func overlay(dst *Set, runs []Run, withST bool) {
	for _, p := range winners(runs) {
		r := runs[p.run]
		dst.T = append(dst.T, r.T[p.i])
		dst.V = append(dst.V, r.V[p.i])
		if withST {
			dst.ST = append(dst.ST, r.start(p.i))
		}
	}
}

// mergeMixed merges runs of which some hold histograms. At one timestamp a series has a float or a histogram, never both.
func mergeMixed(dst *Set, runs []Run) {
	withST := slices.ContainsFunc(runs, func(r Run) bool { return r.ST != nil })
	for _, p := range winners(runs) {
		r := runs[p.run]
		if p.i >= len(r.T) {
			dst.Histograms = append(dst.Histograms, r.Histograms[p.i-len(r.T)])
			continue
		}
		dst.T = append(dst.T, r.T[p.i])
		dst.V = append(dst.V, r.V[p.i])
		if withST {
			dst.ST = append(dst.ST, r.start(p.i))
		}
	}
}

func (r Run) start(i int) int64 {
	if r.ST == nil {
		return 0
	}
	return r.ST[i]
}

// place is a sample of a run; its histograms follow its floats.
type place struct {
	run, i int
	t      int64
}

// winners returns for each timestamp the sample that was accepted last, in order of time.
func winners(runs []Run) []place {
	var all []place
	for n, r := range runs {
		for i, t := range r.T {
			all = append(all, place{n, i, t})
		}
		for i, h := range r.Histograms {
			all = append(all, place{n, len(r.T) + i, h.T})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int {
		if a.t != b.t {
			return compare(a.t, b.t)
		}
		return compare(runs[a.run].Version, runs[b.run].Version)
	})
	out := all[:0]
	for i, p := range all {
		if i+1 < len(all) && all[i+1].t == p.t {
			continue
		}
		out = append(out, p)
	}
	return out
}
