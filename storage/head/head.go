package head

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/promkeep/promkeep/storage/series"
)

const minTime = math.MinInt64

// Head is the samples in memory of all tenants. Safe for concurrent use, except that appends, Advance and replay come from
// one goroutine, in the order of the log.
type Head struct {
	epoch     atomic.Uint32 // counts flushes
	blocks    blocks        // samples that are not flushed
	unflushed atomic.Int64  // bytes of what else is not flushed, about
	cached    atomic.Int64  // bytes of rows, see Row.bytes
	coverFrom atomic.Int64  // ms: of all series, every sample at or after it is in memory

	mu      sync.Mutex // guards what follows
	tenants map[int32]*Tenant
	list    []*Tenant // in order of creation
	byID    byID
	sorted  []place // by ID; may lack the newest
	fresh   []place // not in sorted yet
}

// New returns an empty head, which covers nothing.
func New() *Head {
	h := &Head{tenants: map[int32]*Tenant{}}
	h.coverFrom.Store(math.MaxInt64)
	return h
}

// Tenant returns the index of a tenant.
func (h *Head) Tenant(id int32) *Tenant {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tenants[id]
	if t == nil {
		t = newTenant(id, h)
		t.number = uint32(len(h.list))
		h.tenants[id] = t
		h.list = append(h.list, t)
	}
	return t
}

// Tenants returns all tenants that have or had series in memory.
func (h *Head) Tenants() []*Tenant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// UnflushedBytes is about the memory that samples take which are not flushed yet.
func (h *Head) UnflushedBytes() int64 { return h.blocks.used.Load() + h.unflushed.Load() }

// CachedBytes is about the memory that the flushed rows take which are kept as a cache.
func (h *Head) CachedBytes() int64 { return h.cached.Load() }

// CoverFrom is the time in ms from which on every sample of every series is in memory. A reader must ask after it has
// taken its views: it only ever grows while rows are evicted.
func (h *Head) CoverFrom() int64 { return h.coverFrom.Load() }

// SetCoverFrom says that all rows from t on have been loaded.
func (h *Head) SetCoverFrom(t int64) { h.coverFrom.Store(t) }

// Append takes a float sample.
func (h *Head) Append(s *Series, t, st int64, v float64) {
	epoch := h.epoch.Load()
	s.mu.Lock()
	replaced := s.seal(epoch)
	s.append(&h.blocks, t, st, v)
	s.hint = hint(s.tail, s.fill)
	s.mu.Unlock()
	if replaced != 0 {
		h.unflushed.Add(-replaced)
	}
}

// Soon says to which series samples will be appended next. It does nothing but spare Append the wait for memory: what several
// series need is fetched at the same time. A few dozen are a good number.
func (h *Head) Soon(all []*Series) {
	for _, s := range all {
		prefetch(unsafe.Pointer(&s.mu))
	}
	for _, s := range all {
		if s.hint != 0 {
			h.blocks.prefetch(s.hint)
		}
	}
}

// AppendHistogram takes a histogram sample, which the caller must not change afterwards.
func (h *Head) AppendHistogram(s *Series, x series.Histogram) {
	epoch := h.epoch.Load()
	s.mu.Lock()
	replaced := s.seal(epoch)
	s.appendHistogram(x)
	s.mu.Unlock()
	h.unflushed.Add(histogramBytes(x) - replaced)
}

func bytesOf(hs []series.Histogram) (n int64) {
	for _, h := range hs {
		n += histogramBytes(h)
	}
	return n
}

func histogramBytes(x series.Histogram) int64 {
	if x.H != nil {
		return 200 + 8*int64(len(x.H.PositiveSpans)+len(x.H.NegativeSpans)+len(x.H.PositiveBuckets)+len(x.H.NegativeBuckets)+len(x.H.CustomValues))
	}
	return 200 + 8*int64(len(x.FH.PositiveSpans)+len(x.FH.NegativeSpans)+len(x.FH.PositiveBuckets)+len(x.FH.NegativeBuckets)+len(x.FH.CustomValues))
}

// AddRow keeps a row that is in the database already.
func (h *Head) AddRow(s *Series, r Row) {
	s.mu.Lock()
	s.rows = s.rows.with(r)
	if r.End > s.last {
		s.last = r.End
	}
	s.mu.Unlock()
	h.cached.Add(r.bytes())
}

// Advance ends the flush epoch: what was appended so far belongs to the next flush, what comes does not.
func (h *Head) Advance() { h.epoch.Add(1) }

// Flushing calls fn in the order of series IDs for each series that has samples from before the last Advance. fn returns
// the packed rows of these samples, which are copied and stay its own; they join the cache at once, beside the samples. The samples are
// its own only until it returns.
func (h *Head) Flushing(fn func(s *Series, samples []Sample, st map[int64]int64, hs []series.Histogram) ([]Row, error)) error {
	epoch := h.epoch.Load()
	var samples []Sample
	return h.each(func(s *Series) error {
		s.mu.Lock()
		if replaced := s.seal(epoch); replaced != 0 {
			h.unflushed.Add(-replaced)
		}
		samples = h.blocks.read(samples[:0], s.sealed)
		var hs []series.Histogram
		var st map[int64]int64
		if s.extra != nil {
			hs = s.extra.sealed
			if len(s.extra.st) > 0 {
				st = make(map[int64]int64, len(s.extra.st))
				for t, v := range s.extra.st {
					st[t] = v
				}
			}
		}
		s.mu.Unlock()
		if len(samples) == 0 && len(hs) == 0 {
			return nil
		}
		rows, err := fn(s, samples, st, hs)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.rows = s.rows.with(rows...)
		s.mu.Unlock()
		for _, r := range rows {
			h.cached.Add(r.bytes())
		}
		return nil
	})
}

// Flushed ends a flush. If it was committed its samples live on as rows only; if not, the rows of that version go, and the
// samples wait for the next flush.
func (h *Head) Flushed(version int32, committed bool) {
	h.all(func(s *Series) {
		s.mu.Lock()
		if !committed {
			var freed int64
			s.rows, freed = s.rows.without(func(r Row) bool { return r.Version == version })
			s.mu.Unlock()
			h.cached.Add(-freed)
			return
		}
		if x := s.extra; x != nil {
			h.unflushed.Add(-bytesOf(x.sealed))
			if len(x.st) > 0 {
				open := h.blocks.readOpen(nil, s.first, s.tail, uint32(s.fill))
				for _, sample := range h.blocks.read(nil, s.sealed) {
					if !containsTime(open, sample.T) {
						delete(x.st, sample.T)
					}
				}
			}
			x.sealed = nil
		}
		h.blocks.give(s.sealed)
		s.sealed = 0
		s.mu.Unlock()
	})
}

func containsTime(open []Sample, t int64) bool {
	for _, s := range open {
		if s.T == t {
			return true
		}
	}
	return false
}

// Started is the hour since 1970 before which the catalogue knows no sample of the series.
func (s *Series) Started() int32 { return s.started.Load() }

// SetStarted follows a change of the catalogue.
func (s *Series) SetStarted(hour int32) { s.started.Store(hour) }

// Evict drops cached rows that end before t, in ms, after moving CoverFrom there.
func (h *Head) Evict(t int64) {
	if t <= h.coverFrom.Load() {
		return
	}
	h.coverFrom.Store(t)
	h.all(func(s *Series) {
		s.mu.Lock()
		var freed int64
		s.rows, freed = s.rows.without(func(r Row) bool { return r.End < t })
		s.mu.Unlock()
		if freed > 0 {
			h.cached.Add(-freed)
		}
	})
}

// Ended is a series that Collect took out of memory.
type Ended struct {
	ID   uint64
	Last int64 // ms, its youngest sample; math.MinInt64 if it never had one in memory
}

// Last is the time in ms of the youngest sample that the series may ever have had; math.MinInt64 if it never had one.
func (s *Series) Last() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != 0 {
		_, youngest := s.openBounds()
		return max(s.last, youngest)
	}
	return s.last
}

// Lived says that all series may have had samples up to t, in ms, that are not in memory.
func (h *Head) Lived(t int64) {
	h.all(func(s *Series) { s.Lived(t) })
}

// Collect removes series that have no sample in memory and that no writer asked for during the last two flushes. leaving is
// called with each before it is removed; some of these may be found to be in use after all, and stay.
func (h *Head) Collect(leaving func(*Series)) []Ended {
	epoch := h.epoch.Load()
	idle := func(s *Series) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return epoch-s.touched.Load() >= 2 && s.first == 0 && s.sealed == 0 && len(s.rows) == 0 &&
			(s.extra == nil || len(s.extra.open) == 0 && len(s.extra.sealed) == 0)
	}
	dead := map[int32][]*Series{}
	h.all(func(s *Series) {
		if idle(s) {
			leaving(s)
			dead[s.Tenant()] = append(dead[s.Tenant()], s)
		}
	})
	var ended []Ended
	for id, list := range dead {
		for _, s := range h.Tenant(id).remove(list, idle) {
			ended = append(ended, Ended{ID: s.ID, Last: s.last})
		}
	}
	if len(ended) > 0 {
		h.forget(ended)
	}
	return ended
}
