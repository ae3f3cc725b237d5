package catalogue

import (
	"container/list"
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
)

// maxResultBytes bounds the results of searches that are remembered, about.
const maxResultBytes = 64 << 20

// kind says which series a result is about.
type kind int

const (
	ofAll   kind = iota // all that may have samples in the range
	ofEnded             // of those that had ended
)

// cache remembers the results of searches by what was asked, for as long as they are true. A result depends on the hours of the
// range that it was asked for, of which a change of series tells which it affects. Safe for concurrent use.
type cache struct {
	mu      sync.Mutex // guards what follows
	version int64      // of the catalogue: entries and the list of metrics are as of then, or later
	results map[string]*list.Element
	recent  list.List // of *result, most recently used first
	pending map[*result]struct{}
	bytes   int64
	limit   int64

	hits, misses uint64
}

type result struct {
	key        string
	kind       kind
	mint, maxt int32 // hours
	value      any
	bytes      int64
	stale      bool // something changed while it was looked up
}

func newCache(limit int64) *cache {
	return &cache{version: -1, results: map[string]*list.Element{}, pending: map[*result]struct{}{}, limit: limit}
}

// changed follows a change that this process committed as version of the catalogue: results that it affects go.
func (c *cache) changed(version int64, affects func(*result) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.version+1 {
		c.version = version // else another process changed something before, which shows when the database is asked
	}
	c.forget(affects)
}

func (c *cache) forget(affects func(*result) bool) {
	for at := c.recent.Front(); at != nil; {
		next := at.Next()
		if affects(at.Value.(*result)) {
			c.remove(at)
		}
		at = next
	}
	for r := range c.pending {
		r.stale = r.stale || affects(r)
	}
}

func everything(*result) bool { return true }

// discard forgets some results.
func (c *cache) discard(which func(*result) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(which)
}

// distrust forgets all results, and makes the next search take the catalogue for changed by another process.
func (c *cache) distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(everything)
	c.version = -1
}

// advance forgets all results if they are older than the version, which includes changes by other processes.
func (c *cache) advance(version int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version < version {
		c.forget(everything)
		c.version = version
	}
}

func (c *cache) remove(at *list.Element) {
	r := at.Value.(*result)
	c.recent.Remove(at)
	delete(c.results, r.key)
	c.bytes -= r.bytes
}

// current tells whether all changes up to the version are known.
func (c *cache) current(version int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version >= version
}

// get returns the result that is remembered, or one to be passed to put when it has its value.
func (c *cache) get(k kind, key string, mint, maxt int32) (found *result, pending *result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.results[key]; ok {
		c.hits++
		c.recent.MoveToFront(at)
		return at.Value.(*result), nil
	}
	c.misses++
	r := &result{key: key, kind: k, mint: mint, maxt: maxt}
	c.pending[r] = struct{}{}
	return nil, r
}

// peek returns the result that is remembered, if any; whether it is true must be asked of holds.
func (c *cache) peek(key string) *result {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.results[key]; ok {
		return at.Value.(*result)
	}
	return nil
}

// holds tells whether a result, which peek returned before the database was at the version, is true as of it: all changes up to the version are known, and
// none has removed it.
func (c *cache) holds(r *result, version int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.results[r.key]
	if !ok || at.Value.(*result) != r || c.version < version {
		return false
	}
	c.hits++
	c.recent.MoveToFront(at)
	return true
}

// put ends what get began. Without ok there is nothing to remember.
func (c *cache) put(r *result, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, r)
	if !ok || r.stale || r.bytes > c.limit/4 || c.results[r.key] != nil {
		return
	}
	c.results[r.key] = c.recent.PushFront(r)
	c.bytes += r.bytes
	for c.bytes > c.limit {
		c.remove(c.recent.Back())
	}
}

// remember returns what find found for the key, now or before. bytes says about how much memory a value takes.
//
// What find reads is as of the time of the call or later, and so is what is remembered: another process' changes show in the version
// in the database, which is asked each time; this one's own remove the results that they affect before they are acknowledged.
func remember[T any](ctx context.Context, c *Catalogue, k kind, key string, mint, maxt int32, bytes func(T) int64, find func() (T, error)) (T, error) {
	const tries = 5
	for try := 1; ; try++ {
		var none T
		before, err := c.follow(ctx, c.reads)
		if err != nil {
			return none, err
		}
		found, r := c.results.get(k, key, mint, maxt)
		if found != nil {
			return found.value.(T), nil
		}
		value, err := find()
		r.value, r.bytes = value, int64(len(key))+200
		if err == nil {
			r.bytes += bytes(value)
		}
		c.results.put(r, err == nil)
		if err == nil || try == tries {
			return value, err
		}
		// Pairs and metrics may have been removed between two of find's statements.
		if now, away := c.state(ctx, c.reads); away != nil || now.retired == before.retired {
			return none, err
		}
	}
}

// state is the row of the table catalogue.
type state struct{ version, retired int64 }

func (c *Catalogue) state(ctx context.Context, pool *pgxpool.Pool) (s state, err error) {
	err = pool.QueryRow(ctx, schema.CatalogueState).Scan(&s.version, &s.retired)
	return s, err
}

// follow makes metrics and results be as of now, or later.
func (c *Catalogue) follow(ctx context.Context, pool *pgxpool.Pool) (state, error) {
	now, err := c.state(ctx, pool)
	if err != nil || c.results.current(now.version) {
		return now, err
	}
	// It may be a change of this process that was just committed: that is still holding this.
	c.changing.Lock()
	current := c.results.current(now.version)
	c.changing.Unlock()
	if current {
		return now, nil
	}
	c.mu.Lock()
	c.allMetrics = false
	c.removal++ // what is being read may be too old
	c.mu.Unlock()
	c.results.advance(now.version)
	return now, nil
}

// Remembered counts the searches that were answered from memory, and those that were not.
func (c *Catalogue) Remembered() (hits, misses uint64) {
	c.results.mu.Lock()
	defer c.results.mu.Unlock()
	return c.results.hits, c.results.misses
}

// RememberedBytes is about the memory that results of searches take.
func (c *Catalogue) RememberedBytes() int64 {
	c.results.mu.Lock()
	defer c.results.mu.Unlock()
	return c.results.bytes
}
