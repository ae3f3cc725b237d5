package head

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
)

// postings finds the places (refs) of series by their labels, as Prometheus' index.MemPostings does, for series whose refs ascend. That
// makes adding a series appending to the lists of its labels; and these are, but for one or two, the lists of the series before,
// which comes from the same target: so they are looked up only where the labels differ. Safe for concurrent use.
//
// Names and values are copied, once each: a list does not hold the labels of a series that has gone.
type postings struct {
	mu    sync.RWMutex // guards what follows, and what lists hold; never held for longer than a batch of new series takes
	names map[string]*labelName
	all   pair   // which all series have
	last  []pair // of the series that was added last
	spare []pair // memory for the next

	deleting sync.Mutex // one at a time
}

// labelName is a label name, and its values.
type labelName struct {
	name   string
	values map[string]*list
	// lists are those of values in order of creation. What was taken of it under the lock stays true without it: a new one is
	// appended, and where some go another slice takes its place. It may have empty lists while they are going.
	lists []*list
}

// list is a label value, and the series that have it.
type list struct {
	value string
	refs  []uint32 // ascending; changes as labelName.lists does
	gone  bool     // it is empty, and for good; guarded by postings.deleting
}

// pair is a label of a series.
type pair struct {
	name *labelName
	list *list
}

// someLists is how many lists are looked at under one lock.
const someLists = 1024

func newPostings() *postings {
	p := &postings{names: map[string]*labelName{}}
	name, value := index.AllPostingsKey()
	p.all.name = p.name(name)
	p.all.list = p.all.name.list(value)
	return p
}

// name returns the label name, which it makes if there is none; the caller holds mu.
func (p *postings) name(s string) *labelName {
	n := p.names[s]
	if n == nil {
		n = &labelName{name: strings.Clone(s), values: map[string]*list{}}
		p.names[n.name] = n
	}
	return n
}

// list returns the list of a value, which it makes if there is none; the caller holds mu.
func (n *labelName) list(value string) *list {
	l := n.values[value]
	if l == nil {
		l = &list{value: strings.Clone(value)}
		n.values[l.value] = l
		n.lists = append(n.lists, l)
	}
	return l
}

// pairs appends the pairs of a label set. last are those of another, which may be much alike. The caller holds mu; for reading if
// all pairs exist.
func (p *postings) pairs(out, last []pair, lset labels.Labels) []pair {
	lset.Range(func(l labels.Label) {
		for len(last) > 0 && last[0].name.name != l.Name && last[0].name.name < l.Name {
			last = last[1:]
		}
		var found pair
		if len(last) > 0 && last[0].name.name == l.Name {
			found, last = last[0], last[1:]
		} else {
			found.name = p.name(l.Name)
		}
		if found.list == nil || found.list.value != l.Value {
			found.list = found.name.list(l.Value)
		}
		out = append(out, found)
	})
	return out
}

// add takes new series; their refs ascend, and are above all that were added before.
func (p *postings) add(all []*Series) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range all {
		p.last, p.spare = p.pairs(p.spare[:0], p.last, s.Labels), p.last
		for _, pair := range p.last {
			pair.list.refs = append(pair.list.refs, s.ref)
		}
		p.all.list.refs = append(p.all.list.refs, s.ref)
	}
}

// delete takes out series that were added. Readers and add wait only while some lists take the places of others.
func (p *postings) delete(dead []*Series) {
	p.deleting.Lock()
	defer p.deleting.Unlock()
	type change struct {
		pair
		before, after []uint32
	}
	changes := []change{{pair: p.all}}
	known := map[*list]struct{}{}
	refs := make([]uint32, 0, len(dead))
	var last, spare []pair
	for some := range slices.Chunk(dead, atOnce) {
		p.mu.RLock()
		for _, s := range some {
			refs = append(refs, s.ref)
			last, spare = p.pairs(spare[:0], last, s.Labels), last
			for _, pair := range last {
				if _, ok := known[pair.list]; !ok {
					known[pair.list] = struct{}{}
					changes = append(changes, change{pair: pair})
				}
			}
		}
		p.mu.RUnlock()
	}
	slices.Sort(refs)

	shrunk := map[*labelName]struct{}{}
	var kept []uint32
	for some := range slices.Chunk(changes, someLists) {
		p.mu.RLock()
		for i := range some {
			some[i].before = some[i].list.refs
		}
		p.mu.RUnlock()
		for i := range some {
			kept = without(kept[:0], some[i].before, refs)
			some[i].after = slices.Clone(kept)
		}
		p.mu.Lock()
		for _, c := range some {
			c.list.refs = append(c.after, c.list.refs[len(c.before):]...)
			if len(c.list.refs) > 0 || c.pair == p.all {
				continue
			}
			c.list.gone = true
			shrunk[c.name] = struct{}{}
			delete(c.name.values, c.list.value)
			if len(c.name.values) == 0 {
				delete(p.names, c.name.name)
			}
			p.last = p.last[:0] // which may have it
		}
		p.mu.Unlock()
		clear(some)
	}
	for name := range shrunk {
		p.mu.RLock()
		before := name.lists
		p.mu.RUnlock()
		after := slices.DeleteFunc(slices.Clone(before), func(l *list) bool { return l.gone })
		p.mu.Lock()
		name.lists = append(slices.Clip(after), name.lists[len(before):]...)
		p.mu.Unlock()
	}
}

// without appends those of refs to out that are not in dead. Both ascend.
func without(out, refs, dead []uint32) []uint32 {
	for i, ref := range refs {
		if len(dead) > 0 && dead[0] < ref {
			n, _ := slices.BinarySearch(dead, ref)
			dead = dead[n:]
		}
		switch {
		case len(dead) == 0:
			return append(out, refs[i:]...)
		case dead[0] != ref:
			out = append(out, ref)
		}
	}
	return out
}

// All returns the postings of all series.
func (p *postings) All() index.Postings { return p.merge(context.Background(), []*list{p.all.list}) }

// Postings returns those of the series that have one of the values.
func (p *postings) Postings(ctx context.Context, name string, values ...string) index.Postings {
	lists := make([]*list, 0, len(values))
	p.mu.RLock()
	if n := p.names[name]; n != nil {
		for _, v := range values {
			if l := n.values[v]; l != nil {
				lists = append(lists, l)
			}
		}
	}
	p.mu.RUnlock()
	return p.merge(ctx, lists)
}

// PostingsForAllLabelValues returns those of the series that have the label.
func (p *postings) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	return p.merge(ctx, p.lists(name))
}

// PostingsForLabelMatching returns those of the series that have the label with a value that matches.
func (p *postings) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	var matching []*list
	for i, l := range p.lists(name) {
		if i%128 == 0 && ctx.Err() != nil {
			return index.ErrPostings(ctx.Err())
		}
		if match(l.value) {
			matching = append(matching, l)
		}
	}
	return p.merge(ctx, matching)
}

// LabelNames returns the label names, in no order. The slice is the caller's.
func (p *postings) LabelNames() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var names []string
	for _, n := range p.names {
		if n != p.all.name {
			names = append(names, n.name)
		}
	}
	return names
}

// LabelValues returns the values of a label, in no order; nil if there is none. The slice is the caller's.
func (p *postings) LabelValues(name string) []string {
	lists := p.lists(name)
	values := slices.Grow([]string(nil), len(lists))
	p.each(lists, func(l *list, _ []uint32) { values = append(values, l.value) })
	return values
}

// Stats returns the values of the label with most series, the labels with most values, those of which the values have most bytes, each
// as often as there are series, and the pairs with most series: limit of each, the largest first.
func (p *postings) Stats(label string, limit int) *index.PostingsStats {
	var names []*labelName
	p.mu.RLock()
	for _, n := range p.names {
		if n != p.all.name {
			names = append(names, n)
		}
	}
	p.mu.RUnlock()
	var st index.PostingsStats
	for _, n := range names {
		var values int
		var bytes uint64
		p.each(p.lists(n.name), func(l *list, refs []uint32) {
			series := uint64(len(refs))
			values++
			bytes += uint64(len(n.name)+len(l.value)) * series
			if n.name == label {
				st.CardinalityMetricsStats = largest(st.CardinalityMetricsStats, limit, series, "", l.value)
			}
			st.LabelValuePairsStats = largest(st.LabelValuePairsStats, limit, series, n.name+"=", l.value)
		})
		st.NumLabelPairs += values
		st.CardinalityLabelStats = largest(st.CardinalityLabelStats, limit, uint64(values), "", n.name)
		st.LabelValueStats = largest(st.LabelValueStats, limit, bytes, "", n.name)
	}
	return &st
}

// largest puts a number among those that are the largest, unless there are limit that are not smaller.
func largest(stats []index.Stat, limit int, count uint64, prefix, name string) []index.Stat {
	if n := len(stats); n > 0 && n >= limit && stats[n-1].Count >= count || limit <= 0 {
		return stats
	}
	at, _ := slices.BinarySearchFunc(stats, count, func(s index.Stat, count uint64) int {
		if s.Count >= count {
			return -1
		}
		return 1
	})
	stats = slices.Insert(stats, at, index.Stat{Name: prefix + name, Count: count})
	return stats[:min(len(stats), limit)]
}

// lists returns those of a label name; some may be empty.
func (p *postings) lists(name string) []*list {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if n := p.names[name]; n != nil {
		return n.lists
	}
	return nil
}

// each calls fn with those that are not empty.
func (p *postings) each(lists []*list, fn func(l *list, refs []uint32)) {
	for some := range slices.Chunk(lists, someLists) {
		p.mu.RLock()
		for _, l := range some {
			if len(l.refs) > 0 {
				fn(l, l.refs)
			}
		}
		p.mu.RUnlock()
	}
}

func (p *postings) merge(ctx context.Context, lists []*list) index.Postings {
	cursors := make([]cursor, 0, len(lists))
	p.each(lists, func(_ *list, refs []uint32) { cursors = append(cursors, cursor{rest: refs}) })
	its := make([]*cursor, len(cursors))
	for i := range cursors {
		its[i] = &cursors[i]
	}
	return index.Merge(ctx, its...)
}

// cursor goes over a list that does not change.
type cursor struct {
	at   uint32 // 0 before the first and after the last
	rest []uint32
}

func (c *cursor) At() promstorage.SeriesRef { return promstorage.SeriesRef(c.at) }
func (*cursor) Err() error                  { return nil }

func (c *cursor) Next() bool {
	if len(c.rest) == 0 {
		c.at = 0
		return false
	}
	c.at, c.rest = c.rest[0], c.rest[1:]
	return true
}

func (c *cursor) Seek(ref promstorage.SeriesRef) bool {
	if c.at != 0 && c.At() >= ref {
		return true
	}
	if ref > math.MaxUint32 {
		c.rest = nil
	}
	// What is sought is near more often than not.
	n := 1
	for n < len(c.rest) && promstorage.SeriesRef(c.rest[n-1]) < ref {
		n *= 2
	}
	i, _ := slices.BinarySearch(c.rest[n/2:min(n, len(c.rest))], uint32(ref))
	c.rest = c.rest[n/2+i:]
	return c.Next()
}
