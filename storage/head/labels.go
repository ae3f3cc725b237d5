package head

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promkeep/promkeep/storage/series"
)

// Keep tells of which series labels are wanted; nil means of all.
type Keep func(*Series) bool

// LabelValues returns the distinct values of a label over the series in memory that match and are to be kept, in no order.
// The slice is the caller's.
func (t *Tenant) LabelValues(ctx context.Context, name string, keep Keep, ms ...*labels.Matcher) ([]string, error) {
	values := t.postings.LabelValues(name)
	others := keep != nil
	for _, m := range ms {
		if m.Name != name {
			others = true
			continue
		}
		values = slices.DeleteFunc(values, func(v string) bool { return !m.Matches(v) })
	}
	if len(values) == 0 || !others {
		return values, ctx.Err()
	}
	refs, err := t.refs(ctx, keep, ms)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	if len(refs) < len(values) {
		found := map[string]struct{}{}
		t.eachLabels(refs, func(l labels.Labels) {
			if v := l.Get(name); v != "" {
				found[v] = struct{}{}
			}
		})
		return keys(found), nil
	}
	wanted := newRefSet(refs)
	out := values[:0]
	for i, v := range values {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if wanted.meets(t.postings.Postings(ctx, name, v)) {
			out = append(out, v)
		}
	}
	return out, nil
}

// fewSeries is how many series are looked at one by one rather than through the index.
const fewSeries = 1000

// LabelNames returns the distinct label names of the series in memory that match and are to be kept, in no order.
func (t *Tenant) LabelNames(ctx context.Context, keep Keep, ms ...*labels.Matcher) ([]string, error) {
	if keep == nil && len(ms) == 0 {
		return t.postings.LabelNames(), nil
	}
	refs, err := t.refs(ctx, keep, ms)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	found := map[string]struct{}{}
	t.eachLabels(refs[:min(len(refs), fewSeries)], func(l labels.Labels) {
		l.Range(func(l labels.Label) { found[l.Name] = struct{}{} })
	})
	if len(refs) > fewSeries {
		wanted := newRefSet(refs)
		for _, name := range t.postings.LabelNames() {
			if _, ok := found[name]; ok {
				continue
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			for _, v := range t.postings.LabelValues(name) {
				if wanted.meets(t.postings.Postings(ctx, name, v)) {
					found[name] = struct{}{}
					break
				}
			}
		}
	}
	return keys(found), nil
}

func keys(set map[string]struct{}) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	return out
}

// refs returns the places in the index of the series that match and are to be kept.
func (t *Tenant) refs(ctx context.Context, keep Keep, ms []*labels.Matcher) ([]promstorage.SeriesRef, error) {
	p := t.postings.All()
	if len(ms) > 0 {
		var err error
		if p, err = tsdb.PostingsForMatchers(ctx, reader{p: t.postings}, ms...); err != nil {
			return nil, err
		}
	}
	refs, err := index.ExpandPostings(p)
	if err != nil || keep == nil {
		return refs, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.DeleteFunc(refs, func(ref promstorage.SeriesRef) bool {
		s := t.byRef.get(uint32(ref))
		return s == nil || !keep(s)
	}), nil
}

func (t *Tenant) eachLabels(refs []promstorage.SeriesRef, fn func(labels.Labels)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, ref := range refs {
		if s := t.byRef.get(uint32(ref)); s != nil {
			fn(s.Labels)
		}
	}
}

// refSet is a set of places in the index. They are numbered in the order of creation, so a bit for each does.
type refSet struct {
	first promstorage.SeriesRef
	bits  []uint64
}

func newRefSet(refs []promstorage.SeriesRef) refSet {
	s := refSet{first: slices.Min(refs)}
	s.bits = make([]uint64, (slices.Max(refs)-s.first)/64+1)
	for _, ref := range refs {
		i := ref - s.first
		s.bits[i/64] |= 1 << (i % 64)
	}
	return s
}

// meets tells whether any of the postings is in the set.
func (s refSet) meets(p index.Postings) bool {
	for p.Next() {
		i := p.At() - s.first // wraps around for what is before the first
		if w := i / 64; w < promstorage.SeriesRef(len(s.bits)) && s.bits[w]&(1<<(i%64)) != 0 {
			return true
		}
	}
	return false
}

// Overlaps tells whether any series in memory may have a sample there in [mint, maxt], in ms.
func (t *Tenant) Overlaps(mint, maxt int64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	found := false
	t.byRef.all(func(s *Series) bool {
		found = s.Overlaps(mint, maxt)
		return !found
	})
	return found
}

// Bounds returns the times in ms of the oldest and the youngest sample in memory; math.MaxInt64 and math.MinInt64 if there is
// none.
func (t *Tenant) Bounds() (mint, maxt int64) {
	mint, maxt = math.MaxInt64, math.MinInt64
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.byRef.all(func(s *Series) bool {
		s.mu.Lock()
		s.runs(func(start, end int64) bool {
			mint, maxt = min(mint, start), max(maxt, end)
			return true
		})
		s.mu.Unlock()
		return true
	})
	return mint, maxt
}

// Overlaps tells whether the series may have a sample in memory in [mint, maxt], in ms: whether one of its rows, or what
// waits for a flush, reaches into it.
func (s *Series) Overlaps(mint, maxt int64) bool {
	found := false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs(func(start, end int64) bool {
		found = start <= maxt && end >= mint
		return !found
	})
	return found
}

// runs calls fn with the first and the last time of each run of samples in memory until it returns false; the caller holds mu.
func (s *Series) runs(fn func(start, end int64) bool) {
	for rest := s.rows; len(rest) > 0; {
		var r Row
		if r, rest = rest.first(); !fn(r.Start, r.End) {
			return
		}
	}
	if s.sealed != 0 && !fn(s.blocks().bounds(s.sealed)) {
		return
	}
	if s.first != 0 && !fn(s.openBounds()) || s.extra == nil {
		return
	}
	histogram := func(h series.Histogram) int64 { return h.T }
	if run(s.extra.sealed, false, histogram, fn) {
		run(s.extra.open, s.extra.lateHist, histogram, fn)
	}
}

// openBounds returns the times in ms of the oldest and the youngest sample in open, which has some; the caller holds mu.
func (s *Series) openBounds() (mint, maxt int64) {
	mint, maxt = s.blocks().at(s.first).base, s.at
	if s.late {
		for _, x := range s.blocks().readOpen(nil, s.first, s.tail, uint32(s.fill)) {
			mint, maxt = min(mint, x.T), max(maxt, x.T)
		}
	}
	return mint, maxt
}

func run[S any](samples []S, late bool, at func(S) int64, fn func(start, end int64) bool) bool {
	if len(samples) == 0 {
		return true
	}
	start, end := at(samples[0]), at(samples[len(samples)-1])
	if late {
		for _, x := range samples {
			start, end = min(start, at(x)), max(end, at(x))
		}
	}
	return fn(start, end)
}
