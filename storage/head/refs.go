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

// byLabels finds series by the hashes of their labels (Hash): their places in the index, by open addressing with linear probing. There is no
// pointer in it, so it costs the garbage collector nothing.
type byLabels struct {
	slots []labelSlot // a power of two of them
	used  int
}

// labelSlot is free if ref is 0.
type labelSlot struct {
	hash uint32 // a part of it
	ref  uint32
}

// find calls is with each series that may have the hash, until it returns true.
func (t *byLabels) find(hash uint64, is func(ref uint32) bool) {
	if len(t.slots) == 0 {
		return
	}
	mask := uint32(len(t.slots) - 1)
	for i := uint32(hash) & mask; ; i = (i + 1) & mask {
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
		prefetch(unsafe.Pointer(&t.slots[uint32(hash)&uint32(len(t.slots)-1)]))
	}
}

// add takes a series that is not there.
func (t *byLabels) add(hash uint64, ref uint32) {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.resize(max(16, 2*len(t.slots)))
	}
	t.put(labelSlot{uint32(hash), ref})
	t.used++
}

func (t *byLabels) put(sl labelSlot) {
	mask := uint32(len(t.slots) - 1)
	i := sl.hash & mask
	for t.slots[i].ref != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = sl
}

func (t *byLabels) resize(n int) {
	old := t.slots
	t.slots = make([]labelSlot, n)
	for _, sl := range old {
		if sl.ref != 0 {
			t.put(sl)
		}
	}
}

// remove takes out a series that is there.
func (t *byLabels) remove(hash uint64, ref uint32) {
	mask := uint32(len(t.slots) - 1)
	i := uint32(hash) & mask
	for t.slots[i].ref != ref {
		i = (i + 1) & mask
	}
	// What follows moves up, so that probing meets no hole.
	for j := (i + 1) & mask; t.slots[j].ref != 0; j = (j + 1) & mask {
		if home := t.slots[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = labelSlot{}
	t.used--
	if len(t.slots) > 1024 && 8*t.used < len(t.slots) {
		t.resize(len(t.slots) / 4)
	}
}
