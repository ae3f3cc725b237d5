package head

import "unsafe"

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

// byLabels finds series by the hashes of their labels (Hash): their places in the index.
type byLabels struct{ table[labelSlot] }

// labelSlot is free if ref is 0.
type labelSlot struct {
	hash uint32 // a part of it
	ref  uint32
}

func (s labelSlot) home() uint32 { return s.hash }

// find calls is with each series that may have the hash, until it returns true.
func (t *byLabels) find(hash uint64, is func(ref uint32) bool) {
	if len(t.slots) == 0 {
		return
	}
	for i := t.first(uint32(hash)); ; i = t.after(i) {
		switch sl := t.slots[i]; {
		case sl.ref == 0:
			return
		case sl.hash == uint32(hash) && is(sl.ref):
			return
		}
	}
}

// prefetch asks for the memory where a hash is looked for.
func (t *byLabels) prefetch(hash uint64) {
	if len(t.slots) > 0 {
		prefetch(unsafe.Pointer(&t.slots[t.first(uint32(hash))]))
	}
}

// add takes a series that is not there.
func (t *byLabels) add(hash uint64, ref uint32) {
	t.table.add(labelSlot{uint32(hash), ref}, labelSlot.home)
}

// remove takes out a series that is there.
func (t *byLabels) remove(hash uint64, ref uint32) {
	t.table.remove(labelSlot{uint32(hash), ref}, labelSlot.home)
}
