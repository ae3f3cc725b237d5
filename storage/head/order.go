package head

import (
	"cmp"
	"slices"
	"unsafe"
)

// place says where a series is, without pointing to it: what is there for each series and has pointers is looked through by the garbage
// collector each time.
type place struct {
	id     uint64
	tenant uint32 // in Head.list
	ref    uint32 // in the tenant's index, given once; 0 is none
}

// home of an ID, of which the lowest bits tell little.
func home(id uint64) uint32 {
	id ^= id >> 32
	return uint32(id * 0x9e3779b97f4a7c15 >> 32)
}

func (p place) home() uint32 { return home(p.id) }

// byID finds places by series IDs.
type byID struct{ table[place] }

// find returns the place of a series, or the zero place.
func (t *byID) find(id uint64) place {
	if len(t.slots) == 0 {
		return place{}
	}
	for i := t.first(home(id)); ; i = t.after(i) {
		if p := t.slots[i]; p.ref == 0 || p.id == id {
			return p
		}
	}
}

// put adds the place of a series, or replaces it.
func (t *byID) put(p place) {
	if old := t.find(p.id); old != p {
		if old.ref != 0 {
			t.table.remove(old, place.home)
		}
		t.add(p, place.home)
	}
}

// remove takes out a series if it is there.
func (t *byID) remove(id uint64) {
	if p := t.find(id); p.ref != 0 {
		t.table.remove(p, place.home)
	}
}

// prefetch asks for the memory where an ID is looked for.
func (t *byID) prefetch(id uint64) {
	if len(t.slots) > 0 {
		prefetch(unsafe.Pointer(&t.slots[t.first(home(id))]))
	}
}

// prefetchIDs asks for the memory where the IDs of the entries are looked for.
func (h *Head) prefetchIDs(all []Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range all {
		h.byID.prefetch(all[i].ID)
	}
}

func (h *Head) register(s *Series) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := place{s.ID, s.tenant.number, s.ref}
	h.byID.put(p)
	h.fresh = append(h.fresh, p)
}

// ByID returns the series with the ID if it is in memory, or nil. The caller does not hold a tenant's RLock.
func (h *Head) ByID(id uint64) *Series {
	h.mu.Lock()
	p := h.byID.find(id)
	if p.ref == 0 {
		h.mu.Unlock()
		return nil
	}
	t := h.list[p.tenant]
	h.mu.Unlock()
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byRef.get(p.ref)
}

// Len is the number of series in memory.
func (h *Head) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byID.used
}

// order returns the places of all series by ID. The slice is not changed afterwards.
func (h *Head) order() ([]place, []*Tenant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fresh := h.fresh; len(fresh) > 0 {
		compare := func(a, b place) int { return cmp.Compare(a.id, b.id) }
		slices.SortFunc(fresh, compare)
		all, old := make([]place, 0, len(h.sorted)+len(fresh)), h.sorted
		for len(old) > 0 && len(fresh) > 0 {
			if compare(old[0], fresh[0]) <= 0 {
				all, old = append(all, old[0]), old[1:]
			} else {
				all, fresh = append(all, fresh[0]), fresh[1:]
			}
		}
		h.sorted, h.fresh = append(append(all, old...), fresh...), nil
	}
	return h.sorted, h.list
}

// each calls fn with the series in order of IDs, until it returns an error. Series lie anywhere in memory: some are asked for ahead.
func (h *Head) each(fn func(*Series) error) error {
	places, tenants := h.order()
	var batch [64]*Series
	for len(places) > 0 {
		n := min(len(batch), len(places))
		found := batch[:0]
		var t *Tenant
		for _, p := range places[:n] {
			if next := tenants[p.tenant]; next != t {
				if t != nil {
					t.mu.RUnlock()
				}
				t = next
				t.mu.RLock()
			}
			if s := t.byRef.get(p.ref); s != nil {
				prefetch(unsafe.Pointer(s))
				prefetch(unsafe.Pointer(&s.mu))
				found = append(found, s)
			}
		}
		t.mu.RUnlock()
		for _, s := range found {
			if err := fn(s); err != nil {
				return err
			}
		}
		places = places[n:]
	}
	return nil
}

// all calls fn with all series in order of IDs.
func (h *Head) all(fn func(*Series)) {
	_ = h.each(func(s *Series) error {
		fn(s)
		return nil
	})
}

// forget takes series out that have left the index.
func (h *Head) forget(gone []Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range gone {
		h.byID.remove(e.ID)
	}
	keep := func(in []place) []place {
		kept := make([]place, 0, len(in))
		for _, p := range in {
			if h.byID.find(p.id) == p {
				kept = append(kept, p)
			}
		}
		return kept
	}
	h.sorted, h.fresh = keep(h.sorted), keep(h.fresh)
}
