package head

import "slices"

const refBits = 8

// refs finds series by their places in the index, which are given out in rising order and never again: pages of them, so that
// a series takes little more than a pointer, and what is gone takes nothing.
type refs struct {
	pages map[uint32]*refPage
	n     int
}

type refPage struct {
	series [1 << refBits]*Series
	n      int
}

func (r *refs) get(ref uint32) *Series {
	if p := r.pages[ref>>refBits]; p != nil {
		return p.series[ref&(1<<refBits-1)]
	}
	return nil
}

func (r *refs) add(ref uint32, s *Series) {
	if r.pages == nil {
		r.pages = map[uint32]*refPage{}
	}
	p := r.pages[ref>>refBits]
	if p == nil {
		p = &refPage{}
		r.pages[ref>>refBits] = p
	}
	p.series[ref&(1<<refBits-1)] = s
	p.n++
	r.n++
}

// remove takes out a series that is there.
func (r *refs) remove(ref uint32) {
	p := r.pages[ref>>refBits]
	p.series[ref&(1<<refBits-1)] = nil
	r.n--
	if p.n--; p.n == 0 {
		delete(r.pages, ref>>refBits)
	}
}

// all calls fn for each series, in no order, until it returns false.
func (r *refs) all(fn func(*Series) bool) {
	for _, p := range r.pages {
		for _, s := range p.series {
			if s != nil && !fn(s) {
				return
			}
		}
	}
}

// byLabels finds series by the hashes of their labels (Hash).
type byLabels struct {
	first map[uint64]*Series
	more  map[uint64][]*Series // of those that have a hash in common, which is next to never
}

func (t *byLabels) find(hash uint64, is func(*Series) bool) *Series {
	s := t.first[hash]
	if s == nil || is(s) {
		return s
	}
	for _, s := range t.more[hash] {
		if is(s) {
			return s
		}
	}
	return nil
}

func (t *byLabels) add(hash uint64, s *Series) {
	if t.first[hash] == nil {
		t.first[hash] = s
		return
	}
	if t.more == nil {
		t.more = map[uint64][]*Series{}
	}
	t.more[hash] = append(t.more[hash], s)
}

func (t *byLabels) remove(hash uint64, s *Series) {
	more := t.more[hash]
	switch i := slices.Index(more, s); {
	case i >= 0:
		more = slices.Delete(more, i, i+1)
	case len(more) > 0:
		t.first[hash] = more[0]
		more = slices.Delete(more, 0, 1)
	default:
		delete(t.first, hash)
		return
	}
	if len(more) > 0 {
		t.more[hash] = more
	} else {
		delete(t.more, hash)
	}
}
