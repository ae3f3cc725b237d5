package head

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
)

// Tenant is the index over one tenant's series in memory. Safe for concurrent use.
type Tenant struct {
	ID     int32
	head   *Head
	number uint32 // in Head.list

	Appended atomic.Int64 // samples that were committed since this process began

	mu       sync.RWMutex // guards what follows; a writer holds it for reading while it decodes a request
	keys     spellings
	aliases  map[*Series][]*Spelling // further spellings of a series
	lastRef  uint32
	byRef    refs
	byLabels byLabels
	postings *postings
	fresh    []*Series // added, not in postings yet; empty whenever mu is free
}

var hashSeed = maphash.MakeSeed()

// Hash of a label set within this process, under a secret seed. The one of package labels has none: a sender can make any number of
// label sets with the same one, and so lists that are as long.
func Hash(lset labels.Labels) uint64 {
	var buf [1024]byte
	return maphash.Bytes(hashSeed, lset.Bytes(buf[:0]))
}

// maxAliases bounds the spellings kept of one series: a sender that shuffles labels pays with lookups, not with our memory.
const maxAliases = 4

func newTenant(id int32, h *Head) *Tenant {
	return &Tenant{
		ID: id, head: h,
		aliases:  map[*Series][]*Spelling{},
		postings: newPostings(),
	}
}

// RLock holds off collection while keys are looked up with Known.
func (t *Tenant) RLock() { t.mu.RLock() }

// RUnlock ends RLock.
func (t *Tenant) RUnlock() { t.mu.RUnlock() }

// Known returns the spelling with the key, or nil. before is the one that the sender wrote just before, or nil: what it
// writes next is remembered, and looked at first. The caller holds RLock as long as it uses spellings; the series stays
// in the head for at least one flush more.
func (t *Tenant) Known(key Key, before *Spelling) *Spelling {
	var s *Spelling
	if before != nil {
		s = t.keys.at(before.next.Load())
	}
	if s == nil || s.key != key {
		if s = t.keys.find(key); s == nil {
			return nil
		}
		if before != nil {
			before.next.Store(s.number)
		}
	}
	t.Touch(s)
	return s
}

// Next guesses which spelling comes after s, nil if nothing is known. Whoever acts on it calls Touch. The caller holds RLock.
func (t *Tenant) Next(s *Spelling) *Spelling { return t.keys.at(s.next.Load()) }

// Touch keeps the series in the head for at least one flush more. The caller holds RLock.
func (t *Tenant) Touch(s *Spelling) {
	if epoch := t.head.epoch.Load(); s.touched.Load() != epoch {
		s.touched.Store(epoch)
	}
}

// idle tells whether no writer has asked for the series during the last two flushes; the caller holds mu.
func (t *Tenant) idle(s *Series) bool {
	epoch := t.head.epoch.Load()
	idle := func(sp *Spelling) bool { return epoch-sp.touched.Load() >= 2 }
	if s.spelling != 0 && !idle(t.keys.at(s.spelling-1)) {
		return false
	}
	for _, sp := range t.aliases[s] {
		if !idle(sp) {
			return false
		}
	}
	return epoch-s.touched.Load() >= 2
}

// Entry is a series that a writer asks for.
type Entry struct {
	Key     Key // of the spelling, zero when none is known yet
	Labels  labels.Labels
	Hash    uint64 // of Labels, see Hash
	ID      uint64 // for AddAll
	Started int32  // for AddAll: the hour since 1970 before which the series has no sample
	Series  *Series
}

// atOnce is how many entries are looked at under one lock, which holds off writers.
const atOnce = 512

// locked calls fn for each entry, some under one lock. The tables are large and entries lie anywhere in them: places are asked for ahead.
func (t *Tenant) locked(all []Entry, fn func(*Entry)) {
	const ahead = 32
	for len(all) > 0 {
		n := min(atOnce, len(all))
		t.mu.Lock()
		for i := range all[:n] {
			if i%ahead == 0 {
				soon := all[i:min(i+ahead, n)]
				for _, e := range soon {
					t.keys.prefetch(e.Key)
					t.byLabels.prefetch(e.Hash)
				}
				if soon[0].ID != 0 {
					t.head.prefetchIDs(soon)
				}
			}
			fn(&all[i])
		}
		if len(t.fresh) > 0 {
			t.postings.add(t.fresh)
			clear(t.fresh)
			t.fresh = t.fresh[:0]
		}
		t.mu.Unlock()
		all = all[n:]
	}
}

// FindAll fills in the series that are in the head, and remembers the keys for them.
func (t *Tenant) FindAll(all []Entry) {
	t.locked(all, func(e *Entry) {
		if e.Series = t.find(e.Hash, e.Labels); e.Series != nil {
			e.Series.touched.Store(t.head.epoch.Load())
			t.alias(e.Key, e.Series)
		}
	})
}

// Find returns the series with the labels and remembers the key for it, or nil.
func (t *Tenant) Find(key Key, lset labels.Labels) *Series {
	e := [1]Entry{{Key: key, Labels: lset, Hash: Hash(lset)}}
	t.FindAll(e[:])
	return e[0].Series
}

func (t *Tenant) find(hash uint64, lset labels.Labels) *Series {
	var found *Series
	t.byLabels.find(hash, func(ref uint32) bool {
		s := t.byRef.get(ref)
		if !labels.Equal(s.Labels, lset) {
			return false
		}
		found = s
		return true
	})
	return found
}

func (t *Tenant) alias(key Key, s *Series) {
	if key == (Key{}) {
		return
	}
	if known := t.keys.find(key); known != nil {
		if known.series == s {
			return
		}
		t.forget(known)
	}
	if s.spelling != 0 && len(t.aliases[s]) == maxAliases {
		t.forget(t.aliases[s][0])
	}
	sp := t.keys.add(key, s)
	sp.touched.Store(t.head.epoch.Load())
	if s.spelling == 0 {
		s.spelling = sp.number + 1
	} else {
		t.aliases[s] = append(t.aliases[s], sp)
	}
}

// forget removes a spelling, not its series.
func (t *Tenant) forget(sp *Spelling) {
	s := sp.series
	if s.spelling == sp.number+1 {
		s.spelling = 0
	} else if more := slices.DeleteFunc(t.aliases[s], func(o *Spelling) bool { return o == sp }); len(more) > 0 {
		t.aliases[s] = more
	} else {
		delete(t.aliases, s)
	}
	t.keys.remove(sp)
}

// Add puts a series into the head, or returns the one with the same labels that is there already. key may be zero when
// no sender's spelling is known yet. started is the hour since 1970 before which it has no sample.
func (t *Tenant) Add(key Key, id uint64, lset labels.Labels, started int32) *Series {
	e := [1]Entry{{Key: key, Labels: lset, Hash: Hash(lset), ID: id, Started: started}}
	t.AddAll(e[:])
	return e[0].Series
}

// AddAll is Add for many series, which it fills in.
func (t *Tenant) AddAll(all []Entry) { t.locked(all, t.add) }

func (t *Tenant) add(e *Entry) {
	epoch := t.head.epoch.Load()
	s := t.find(e.Hash, e.Labels)
	if s == nil {
		s = &Series{ID: e.ID, tenant: t, Labels: e.Labels, last: minTime}
		s.epoch = uint16(epoch)
		s.started.Store(e.Started)
		t.lastRef++
		s.ref = t.lastRef
		t.byRef.add(s.ref, s)
		t.byLabels.add(e.Hash, s.ref)
		t.head.register(s)
		t.fresh = append(t.fresh, s)
	}
	s.touched.Store(epoch)
	t.alias(e.Key, s)
	e.Series = s
}

// remove takes out those of dead that still are, and returns them. A writer marks a series under the same lock for reading,
// so what is dead here stays dead. The postings follow without that lock: what they have in excess until then is found nowhere else.
func (t *Tenant) remove(dead []*Series, still func(*Series) bool) []*Series {
	if dead = t.removeUnlisted(dead, still); len(dead) > 0 {
		t.postings.delete(dead)
	}
	return dead
}

func (t *Tenant) removeUnlisted(dead []*Series, still func(*Series) bool) []*Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	dead = slices.DeleteFunc(dead, func(s *Series) bool { return !t.idle(s) || !still(s) })
	for _, s := range dead {
		t.byRef.remove(s.ref)
		for _, sp := range t.aliases[s] {
			t.keys.remove(sp)
		}
		delete(t.aliases, s)
		if s.spelling != 0 {
			t.keys.remove(t.keys.at(s.spelling - 1))
			s.spelling = 0
		}
		t.byLabels.remove(Hash(s.Labels), s.ref)
	}
	return dead
}

// Len is the number of series in memory.
func (t *Tenant) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byRef.n
}

// Select returns the series in memory that match, in no order.
func (t *Tenant) Select(ctx context.Context, ms ...*labels.Matcher) ([]*Series, error) {
	p, err := tsdb.PostingsForMatchers(ctx, reader{p: t.postings}, ms...)
	if err != nil {
		return nil, err
	}
	var out []*Series
	t.mu.RLock()
	defer t.mu.RUnlock()
	for p.Next() {
		if s := t.byRef.get(uint32(p.At())); s != nil {
			out = append(out, s)
		}
	}
	return out, p.Err()
}

// Stats of the index: the label values with most series, and the labels with most values.
func (t *Tenant) Stats(label string, limit int) *index.PostingsStats {
	return t.postings.Stats(label, limit)
}

// reader gives PostingsForMatchers what it needs of the index. Of IndexReader it has no more than it calls.
type reader struct {
	tsdb.IndexReader // nil
	p                *postings
}

func (r reader) Postings(ctx context.Context, name string, values ...string) (index.Postings, error) {
	return r.p.Postings(ctx, name, values...), nil
}

func (r reader) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	return r.p.PostingsForLabelMatching(ctx, name, match)
}

func (r reader) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	return r.p.PostingsForAllLabelValues(ctx, name)
}
