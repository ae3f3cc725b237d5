package adapter

import (
	"sync"

	"github.com/promkeep/promkeep/adapter/wire"
)

// maxDropped bounds a generation of droppedKeys; two of them take some 30 MiB.
const maxDropped = 1 << 18

// droppedKeys remembers series that relabelling drops, so that it is not asked again at each of their samples. It forgets
// what was not used for a generation. The zero value is empty. Safe for concurrent use.
type droppedKeys struct {
	mu         sync.RWMutex // guards what follows
	young, old map[wire.Key]struct{}
}

func (d *droppedKeys) has(k wire.Key) bool {
	d.mu.RLock()
	_, young := d.young[k]
	_, old := d.old[k]
	d.mu.RUnlock()
	if old && !young {
		d.add(k)
	}
	return young || old
}

func (d *droppedKeys) add(k wire.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.young == nil || len(d.young) >= maxDropped {
		d.young, d.old = map[wire.Key]struct{}{}, d.young
	}
	d.young[k] = struct{}{}
}
