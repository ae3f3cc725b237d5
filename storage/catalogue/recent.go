package catalogue

import (
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

// maxRecent bounds how many series are listed that ended or came back while results are remembered.
const maxRecent = 5_000

// recent lists series that are, were or will be marked as ended, because a search of ended series may have been, or be, just too early
// or too late to find them, and those in memory may be looked at too late or too early. Safe for concurrent use.
type recent struct {
	mu      sync.Mutex // guards what follows
	leaving map[uint64]Series
	left    []Series
	dropped Moment
}

// Moment is when a search of labels began.
type Moment uint64

// Moment must be taken before series in memory are looked at, if the catalogue is asked for labels of ended ones afterwards.
func (c *Catalogue) Moment() Moment {
	c.recent.mu.Lock()
	defer c.recent.mu.Unlock()
	return c.recent.dropped
}

// Leaving must be called before a series leaves memory, and End after. Ended is the hour of its youngest sample.
func (c *Catalogue) Leaving(s Series) {
	c.recent.mu.Lock()
	defer c.recent.mu.Unlock()
	if c.recent.leaving == nil {
		c.recent.leaving = map[uint64]Series{}
	}
	c.recent.leaving[s.ID] = s
}

// Stayed takes back Leaving for a series that has not left memory, or is back there.
func (c *Catalogue) Stayed(id uint64) {
	c.recent.mu.Lock()
	defer c.recent.mu.Unlock()
	delete(c.recent.leaving, id)
}

// told follows the commit of their ends.
func (c *Catalogue) told(ids []uint64) {
	r := &c.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if s, ok := r.leaving[id]; ok {
			delete(r.leaving, id)
			r.left = append(r.left, s)
		}
	}
	c.boundRecent()
}

// back lists those of the series that had ended, before the caller puts them into memory.
func (c *Catalogue) back(series []*Series) {
	r := &c.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	c.boundRecent() // not afterwards: what comes back now is not in memory yet
	for _, s := range series {
		if s.Ended != Unknown {
			r.left = append(r.left, *s)
		}
	}
}

// boundRecent empties the list if it is too long: what is on it can be found by now. Searches that began before begin again, and what
// is remembered of them is not true any more.
func (c *Catalogue) boundRecent() {
	if r := &c.recent; len(r.left) > maxRecent {
		c.results.discard(func(r *result) bool { return r.kind == ofEnded })
		r.left = nil
		r.dropped++
	}
}

// each calls fn for the listed series that match. It returns false if some are missing that were listed since the moment.
func (r *recent) each(since Moment, in Range, ms []*labels.Matcher, fn func(labels.Labels)) bool {
	r.mu.Lock()
	if r.dropped != since {
		r.mu.Unlock()
		return false
	}
	list := make([]Series, 0, len(r.left)+len(r.leaving))
	list = append(list, r.left...)
	for _, s := range r.leaving {
		list = append(list, s)
	}
	r.mu.Unlock()
	from, to := Hour(in.Mint), Hour(in.Maxt)
	for _, s := range list {
		if s.Tenant == in.Tenant && s.Started <= to && s.Ended >= from && matches(s.Labels, ms) {
			fn(s.Labels)
		}
	}
	return true
}

// forgetRecent takes off the list what ended before an hour.
func (c *Catalogue) forgetRecent(before int32) {
	r := &c.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = slices.DeleteFunc(r.left, func(s Series) bool { return s.Ended < before })
}
