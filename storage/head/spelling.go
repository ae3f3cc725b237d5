package head

import (
	"sync/atomic"
	"unsafe"
)

// Spelling is how a sender writes a series' labels, and what a writer needs of the series: to append a sample of a known one, the
// series itself is not looked at before the sample is durable. Spellings lie in the order of their creation, which is nearly
// that of scrapes, so that going from one to the next is going through memory in order.
type Spelling struct {
	key     Key
	series  *Series // nil if the place is free
	id      uint64  // of the series
	number  uint32
	next    atomic.Uint32 // number of the spelling that a sender wrote after this one the last time
	touched atomic.Uint32 // epoch in which a writer last asked for it
	extent  atomic.Uint32 // as told with SetExtent
}

// Series is what is spelled.
func (s *Spelling) Series() *Series { return s.series }

// ID of the series.
func (s *Spelling) ID() uint64 { return s.id }

// Key of the spelling.
func (s *Spelling) Key() *Key { return &s.key }

// Extent is what SetExtent was told, 0 before.
func (s *Spelling) Extent() uint32 { return s.extent.Load() }

// SetExtent keeps a number with the spelling that means something to writers, unless there is one.
func (s *Spelling) SetExtent(n uint32) {
	if s.extent.Load() == 0 {
		s.extent.Store(n)
	}
}

const (
	pageBits = 8
	pageSize = 1 << pageBits
)

// spellings is the table of the spellings that a tenant's writers use, found by their keys. Readers may share it; changes are
// made by one alone.
type spellings struct {
	pages []*[pageSize]Spelling
	given uint32   // numbers given out
	free  []uint32 // and returned
	table[slot]
}

// slot of the table; the zero value is free. Keys are hashes, so a part of one is as good as a hash of it.
type slot struct {
	part   uint32 // of the key
	number uint32 // of the spelling, from 1
}

func (t *spellings) len() int { return t.used }

// at returns the spelling with the number, nil if there is none.
func (t *spellings) at(number uint32) *Spelling {
	if page := number >> pageBits; int(page) < len(t.pages) {
		if s := &t.pages[page][number%pageSize]; s.series != nil {
			return s
		}
	}
	return nil
}

// find returns the spelling with the key, nil if there is none.
func (t *spellings) find(key Key) *Spelling {
	if len(t.slots) == 0 {
		return nil
	}
	for i := t.first(uint32(key[0])); ; i = t.after(i) {
		sl := t.slots[i]
		if sl.number == 0 {
			return nil
		}
		if sl.part == uint32(key[1]) {
			if s := t.of(sl); s.key == key {
				return s
			}
		}
	}
}

// of returns the spelling of a slot that is not free.
func (t *spellings) of(sl slot) *Spelling {
	return &t.pages[(sl.number-1)>>pageBits][(sl.number-1)%pageSize]
}

// home of a slot. A spelling keeps its key until its slot is gone.
func (t *spellings) home(sl slot) uint32 { return uint32(t.of(sl).key[0]) }

// prefetch asks for the memory where a key is looked for.
func (t *spellings) prefetch(key Key) {
	if len(t.slots) > 0 {
		prefetch(unsafe.Pointer(&t.slots[t.first(uint32(key[0]))]))
	}
}

// add makes a spelling of the series with a key that no other has.
func (t *spellings) add(key Key, series *Series) *Spelling {
	var number uint32
	if n := len(t.free); n > 0 {
		number, t.free = t.free[n-1], t.free[:n-1]
	} else {
		number = t.given
		t.given++
		if int(number>>pageBits) == len(t.pages) {
			t.pages = append(t.pages, new([pageSize]Spelling))
		}
	}
	s := &t.pages[number>>pageBits][number%pageSize]
	s.key, s.series, s.id, s.number = key, series, series.ID, number
	s.next.Store(number + 1)
	s.extent.Store(0)
	t.table.add(slot{uint32(key[1]), number + 1}, t.home)
	return s
}

// remove frees the place of a spelling. No writer may hold it.
func (t *spellings) remove(s *Spelling) {
	t.table.remove(slot{uint32(s.key[1]), s.number + 1}, t.home)
	s.key, s.series = Key{}, nil
	t.free = append(t.free, s.number)
	if t.used == 0 {
		*t = spellings{}
	}
}
