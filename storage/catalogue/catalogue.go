package catalogue

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// seriesBits is the width of the part of a series ID below its metric.
const seriesBits = 37

// MaxLabelValue is the longest label value in bytes, so that a label pair fits into an index entry of PostgreSQL.
const MaxLabelValue = 2048

// ErrUnstorable means that PostgreSQL cannot keep the labels of a series, and never will.
var ErrUnstorable = errors.New("the labels cannot be stored")

// Unknown is the value of Series.Ended while the series is active.
const Unknown = math.MinInt32

// Series as the catalogue knows it.
type Series struct {
	ID      uint64
	Tenant  int32
	Labels  labels.Labels
	Started int32 // hours since 1970: it has no older sample
	Ended   int32 // hours since 1970: it has no younger sample; Unknown if it is active. Create says what it was before
}

// Hour returns the hour since 1970 of a time in ms, within what the catalogue can hold.
func Hour(ms int64) int32 {
	const hour = 3600_000
	h := ms / hour
	if ms%hour < 0 {
		h--
	}
	return int32(min(max(h, -1<<31), 1<<31-1))
}

// HourEnd returns the last ms of an hour since 1970.
func HourEnd(hour int32) int64 { return (int64(hour)+1)*3600_000 - 1 }

// Catalogue is safe for concurrent use.
type Catalogue struct {
	pool  *pgxpool.Pool // for creating series, and those that are to be in memory
	reads *pgxpool.Pool // for queries

	// changing is held while this process changes series, until what it remembers follows.
	changing sync.Mutex

	mu      sync.RWMutex // guards what follows
	tenants map[string]int32
	names   map[int32]string // of tenants
	metrics map[metricKey]int32
	metric  map[int32]metricKey
	// allMetrics says that metrics has all that have series, as of the version of results.
	allMetrics bool
	pairs      pairCache
	retired    int64  // the database's count of removals up to which metrics and pairs are right; -1 if it was not asked yet
	removal    uint64 // counts removals from metrics and pairs: what was read before one must not be put there after it
	results    *cache
	recent     recent
}

type metricKey struct {
	tenant int32
	name   string
}

// New returns the catalogue in the database of the pools. Looking up for queries has a pool of its own, so that many of them
// cannot hold up the creation of series.
func New(pool, reads *pgxpool.Pool) *Catalogue {
	return &Catalogue{
		pool:    pool,
		reads:   reads,
		tenants: map[string]int32{},
		names:   map[int32]string{},
		metrics: map[metricKey]int32{},
		metric:  map[int32]metricKey{},
		retired: -1,
		results: newCache(maxResultBytes),
	}
}

// Tenant returns the ID of the tenant with the name, which is created if need be.
func (c *Catalogue) Tenant(ctx context.Context, name string) (int32, error) {
	id, ok, err := c.LookupTenant(ctx, name)
	if ok || err != nil {
		return id, err
	}
	if _, err := c.pool.Exec(ctx, schema.TenantCreate, name); err != nil {
		return 0, err
	}
	id, _, err = c.LookupTenant(ctx, name)
	return id, err
}

// TenantName returns the name of a tenant that this process has looked up, or "".
func (c *Catalogue) TenantName(id int32) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.names[id]
}

// LookupTenant returns the ID of the tenant with the name if there is one.
func (c *Catalogue) LookupTenant(ctx context.Context, name string) (int32, bool, error) {
	c.mu.RLock()
	id, ok := c.tenants[name]
	c.mu.RUnlock()
	if ok {
		return id, true, nil
	}
	err := c.pool.QueryRow(ctx, schema.TenantID, name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	c.mu.Lock()
	c.tenants[name], c.names[id] = id, name
	c.mu.Unlock()
	return id, true, nil
}
