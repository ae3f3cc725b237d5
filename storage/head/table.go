package head

// table is a hash table by open addressing with linear probing, without pointers where S has none: so it costs the garbage collector nothing. What S
// holds, and when two are the same, is for those to know who look for it: they walk over slots from home on, up to a free one.
//
// home is given with each change: the hash of a slot, of which the lowest bits are where it is looked for first.
type table[S comparable] struct {
	slots []S // a power of two of them, or none; the zero value is free
	used  int
}

// first is where a hash is looked for first. There must be slots.
func (t *table[S]) first(hash uint32) int { return int(hash) & (len(t.slots) - 1) }

// after is where it is looked for after i.
func (t *table[S]) after(i int) int { return (i + 1) & (len(t.slots) - 1) }

// add takes a slot that is not there.
func (t *table[S]) add(s S, home func(S) uint32) {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.resize(max(16, 2*len(t.slots)), home)
	}
	t.put(s, home)
	t.used++
}

func (t *table[S]) put(s S, home func(S) uint32) {
	var free S
	i := t.first(home(s))
	for t.slots[i] != free {
		i = t.after(i)
	}
	t.slots[i] = s
}

func (t *table[S]) resize(n int, home func(S) uint32) {
	var free S
	old := t.slots
	t.slots = make([]S, n)
	for _, s := range old {
		if s != free {
			t.put(s, home)
		}
	}
}

// remove takes out a slot that is there.
func (t *table[S]) remove(s S, home func(S) uint32) {
	var free S
	mask := len(t.slots) - 1
	i := t.first(home(s))
	for t.slots[i] != s {
		i = t.after(i)
	}
	// What follows moves up, so that probing meets no hole.
	for j := t.after(i); t.slots[j] != free; j = t.after(j) {
		if (j-t.first(home(t.slots[j])))&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = free
	t.used--
	if len(t.slots) > 1024 && 8*t.used < len(t.slots) {
		t.resize(len(t.slots)/4, home)
	}
}
