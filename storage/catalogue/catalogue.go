package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// seriesBits is the width of the part of a series ID below its metric.
const seriesBits = 37

// MaxLabelValue is the longest label value in bytes, so that a label pair fits into an index entry of PostgreSQL.
const MaxLabelValue = 2048

// ErrCollision means that two label sets have the same 128-bit hash: one of them cannot be stored.
var ErrCollision = errors.New("the hash of the series is taken by another series")

// Series as the catalogue knows it.
type Series struct {
	ID      uint64
	Tenant  int32
	Labels  labels.Labels
	Started int32 // hours since 1970: it has no older sample
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

// Catalogue is safe for concurrent use.
type Catalogue struct {
	pool  *pgxpool.Pool // for creating series
	reads *pgxpool.Pool // for queries

	mu      sync.RWMutex // guards what follows
	tenants map[string]int32
	names   map[int32]string // of tenants
	metrics map[metricKey]int32
	metric  map[int32]metricKey
	newest  int32 // highest metric ID read
	pairs   pairCache
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

// Hash is the stable identity of a series: the first 128 bits of SHA-256 over the tenant's ID (4 bytes, big endian) and for
// each label, in the order of names, name and value, each behind its length (4 bytes, big endian).
func Hash(tenant int32, lset labels.Labels) [16]byte {
	h := sha256.New()
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 512), uint32(tenant))
	lset.Range(func(l labels.Label) {
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(l.Name))), l.Name...)
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(l.Value))), l.Value...)
	})
	h.Write(buf)
	return [16]byte(h.Sum(buf[:0])[:16])
}

// Create looks the series up and creates those that are missing; ended ones become active again. It fills in ID and
// Started, and commits before it returns. Label values must not be longer than MaxLabelValue.
func (c *Catalogue) Create(ctx context.Context, series []*Series) error {
	const step = 5000
	for len(series) > 0 {
		n := min(step, len(series))
		if err := c.create(ctx, series[:n]); err != nil {
			return err
		}
		series = series[n:]
	}
	return nil
}

func (c *Catalogue) create(ctx context.Context, series []*Series) error {
	if err := c.ensureMetrics(ctx, series); err != nil {
		return err
	}
	ids, err := c.ensurePairs(ctx, series)
	if err != nil {
		return err
	}
	var (
		metrics = make([]int32, 0, len(series))
		hashes  = make([]pgtype.UUID, 0, len(series))
		started = make([]int32, 0, len(series))
		arrays  = make([]string, 0, len(series))
		byHash  = make(map[[16]byte][]*Series, len(series))
		want    = make(map[[16]byte][]int32, len(series))
	)
	c.mu.RLock()
	for _, s := range series {
		h := Hash(s.Tenant, s.Labels)
		byHash[h] = append(byHash[h], s)
		if len(byHash[h]) > 1 {
			continue
		}
		pairs := make([]int32, 0, s.Labels.Len())
		array := []byte{'{'}
		s.Labels.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			if len(array) > 1 {
				array = append(array, ',')
			}
			id := ids[l]
			pairs = append(pairs, id)
			array = strconv.AppendInt(array, int64(id), 10)
		})
		want[h] = pairs
		metrics = append(metrics, c.metrics[metricKey{s.Tenant, s.Labels.Get(model.MetricNameLabel)}])
		hashes = append(hashes, pgtype.UUID{Bytes: h, Valid: true})
		started = append(started, s.Started)
		arrays = append(arrays, string(append(array, '}')))
	}
	c.mu.RUnlock()

	rows, err := c.pool.Query(ctx, schema.SeriesCreate, metrics, hashes, started, arrays)
	if err != nil {
		return err
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var (
			id     int64
			hash   pgtype.UUID
			first  int32
			labels []int32
		)
		if err := rows.Scan(&id, &hash, &first, &labels); err != nil {
			return err
		}
		if !equal(labels, want[hash.Bytes]) {
			return fmt.Errorf("%w: %s", ErrCollision, byHash[hash.Bytes][0].Labels)
		}
		found++
		for _, s := range byHash[hash.Bytes] {
			s.ID, s.Started = uint64(id), first
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if found != len(hashes) {
		return fmt.Errorf("the catalogue returned %d series of %d", found, len(hashes))
	}
	return nil
}

func equal(a, b []int32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (c *Catalogue) ensureMetrics(ctx context.Context, series []*Series) error {
	missing := map[metricKey]bool{}
	c.mu.RLock()
	for _, s := range series {
		key := metricKey{s.Tenant, s.Labels.Get(model.MetricNameLabel)}
		if _, ok := c.metrics[key]; !ok {
			missing[key] = true
		}
	}
	c.mu.RUnlock()
	if len(missing) == 0 {
		return nil
	}
	var (
		tenants []int32
		names   []string
	)
	for k := range missing {
		tenants, names = append(tenants, k.tenant), append(names, k.name)
	}
	if _, err := c.pool.Exec(ctx, schema.MetricCreate, tenants, names); err != nil {
		return err
	}
	return c.readMetrics(ctx, c.pool, schema.MetricIDs, tenants, names)
}

func (c *Catalogue) readMetrics(ctx context.Context, pool *pgxpool.Pool, query string, args ...any) error {
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var (
		id  int32
		key metricKey
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &key.tenant, &key.name}, func() error {
		c.mu.Lock()
		c.metrics[key], c.metric[id] = id, key
		c.mu.Unlock()
		return nil
	})
	return err
}

// End notes that no active writer knows a series any more; last is its youngest sample in ms.
func (c *Catalogue) End(ctx context.Context, ids []uint64, last []int64) error {
	hours := make([]int32, len(last))
	for i, ms := range last {
		hours[i] = Hour(ms)
	}
	_, err := c.pool.Exec(ctx, schema.SeriesEnd, signed(ids), hours)
	return err
}

func signed(ids []uint64) []int64 {
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out
}
