package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/head"
)

// Exemplars go through the log like samples. In memory are those that are not flushed; a flush moves them to their table. Both
// are bounded: of what comes beyond the bounds the oldest go.

const (
	maxExemplars          = 100_000 // in memory, and of the database in one answer
	maxExemplarsPerSeries = 500     // in the database
)

type exemplarItem struct {
	series *head.Series
	t      int64 // ms
	value  float64
	labels string // as in the log
}

// exemplarID tells exemplars of one series apart; value as bits.
type exemplarID struct {
	t      int64
	value  uint64
	labels string
}

// digest is the first 128 bits of SHA-256 over the value (8 bytes, big endian) and the labels.
func (e *exemplarItem) digest() pgtype.UUID {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, math.Float64bits(e.value)), e.labels...))
	return pgtype.UUID{Bytes: [16]byte(sum[:16]), Valid: true}
}

// exemplarBuffer is the exemplars in memory.
type exemplarBuffer struct {
	mu     sync.Mutex // guards what follows
	open   []exemplarItem
	next   int            // place in open that is overwritten next, once it is full
	sealed []exemplarItem // waits for the flush that is under way; not changed once made

	expired int32 // hour in which what is past the retention was last dropped; guarded by DB.flushMu
}

func (b *exemplarBuffer) add(e exemplarItem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) < maxExemplars {
		b.open = append(b.open, e)
		return
	}
	b.open[b.next] = e
	b.next = (b.next + 1) % maxExemplars
}

// advance is called at the line in the log that a flush draws.
func (b *exemplarBuffer) advance() {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append(slices.Clip(b.sealed), b.open...) // what a failed flush left behind is older
	b.sealed, b.open, b.next = all[max(0, len(all)-maxExemplars):], nil, 0
}

func (b *exemplarBuffer) flushed(committed bool) {
	if committed {
		b.mu.Lock()
		b.sealed = nil
		b.mu.Unlock()
	}
}

// write puts what is sealed into the database, in the transaction of the flush.
func (b *exemplarBuffer) write(ctx context.Context, tx pgx.Tx, minTime int64) error {
	if hour := catalogue.Hour(minTime); hour != b.expired {
		if _, err := tx.Exec(ctx, schema.ExemplarExpire, minTime); err != nil {
			return err
		}
		b.expired = hour
	}
	b.mu.Lock()
	sealed := b.sealed
	b.mu.Unlock()
	const step = 10_000
	for part := range slices.Chunk(sealed, step) {
		var (
			ids, times = make([]int64, len(part)), make([]int64, len(part))
			digests    = make([]pgtype.UUID, len(part))
			values     = make([]float64, len(part))
			texts      = make([][]byte, len(part))
		)
		for i := range part {
			e := &part[i]
			ids[i], times[i], digests[i], values[i], texts[i] = int64(e.series.ID), e.t, e.digest(), e.value, []byte(e.labels)
		}
		if _, err := tx.Exec(ctx, schema.ExemplarPut, ids, times, digests, values, texts); err != nil {
			return err
		}
		slices.Sort(ids)
		if _, err := tx.Exec(ctx, schema.ExemplarBound, slices.Compact(ids), maxExemplarsPerSeries); err != nil {
			return err
		}
	}
	return nil
}

// exemplarOf is an exemplar of a batch.
type exemplarOf struct {
	series int32
	t      int64
	value  float64
	labels string // as in the log
}

// Exemplar adds an exemplar to the series at hand. It must have a time. One whose labels are not valid UTF-8 is left out.
func (b *Batch) Exemplar(e exemplar.Exemplar) {
	valid := true
	e.Labels.Range(func(l labels.Label) { valid = valid && utf8.ValidString(l.Name) && utf8.ValidString(l.Value) })
	if valid {
		b.exemplars = append(b.exemplars, exemplarOf{b.at(e.Ts), e.Ts, e.Value, string(appendLabels(nil, e.Labels))})
	}
}

// ExemplarQuerier implements Prometheus' storage.ExemplarQueryable, for the context's tenant.
func (db *DB) ExemplarQuerier(ctx context.Context) (promstorage.ExemplarQuerier, error) {
	return &exemplarQuerier{ctx, db}, nil
}

type exemplarQuerier struct {
	ctx context.Context
	db  *DB
}

// exemplarsOf are those of one series.
type exemplarsOf struct {
	labels labels.Labels
	all    map[exemplarID]struct{}
}

// Select implements storage.ExemplarQuerier. Series are in the order of labels, exemplars in that of time.
func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	start = max(start, q.db.MinTime())
	tenant, ok, err := q.db.catalogue.LookupTenant(q.ctx, tenantOf(q.ctx))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok || start > end {
		return nil, nil
	}
	found := map[uint64]*exemplarsOf{}
	// Memory first: what is flushed after the look into it is in the database when that is asked.
	q.db.exemplars.mu.Lock()
	inMemory := slices.Concat(q.db.exemplars.sealed, q.db.exemplars.open)
	q.db.exemplars.mu.Unlock()
	cover := q.db.head.CoverFrom()
	for _, ms := range matchers {
		if err := q.selectSeries(tenant, start, end, cover, found, ms); err != nil {
			return nil, err
		}
		for _, e := range inMemory {
			if e.series.Tenant() == tenant && e.t >= start && e.t <= end && found[e.series.ID] == nil && matchesAll(e.series.Labels, ms) {
				found[e.series.ID] = &exemplarsOf{labels: e.series.Labels}
			}
		}
	}
	for _, e := range inMemory {
		if of := found[e.series.ID]; of != nil && e.t >= start && e.t <= end {
			of.add(e.t, e.value, e.labels)
		}
	}
	if err := q.read(start, end, found); err != nil {
		return nil, err
	}
	return results(found)
}

func matchesAll(l labels.Labels, ms []*labels.Matcher) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

func (o *exemplarsOf) add(t int64, value float64, labels string) {
	if o.all == nil {
		o.all = map[exemplarID]struct{}{}
	}
	o.all[exemplarID{t, math.Float64bits(value), labels}] = struct{}{}
}

// selectSeries adds the series that match and may have exemplars.
func (q *exemplarQuerier) selectSeries(tenant int32, start, end, cover int64, found map[uint64]*exemplarsOf, ms []*labels.Matcher) error {
	inHead, err := q.db.head.Tenant(tenant).Select(q.ctx, ms...)
	if err != nil {
		return err
	}
	for _, s := range inHead {
		if found[s.ID] == nil {
			found[s.ID] = &exemplarsOf{labels: s.Labels}
		}
	}
	if start >= cover {
		return nil
	}
	err = q.db.catalogue.Select(q.ctx, tenant, start, end, nil, func(s catalogue.Series) error {
		if found[s.ID] == nil {
			found[s.ID] = &exemplarsOf{labels: s.Labels}
		}
		return nil
	}, ms...)
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// read adds the exemplars in the database.
func (q *exemplarQuerier) read(start, end int64, found map[uint64]*exemplarsOf) error {
	if len(found) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(found))
	for id := range found {
		ids = append(ids, int64(id))
	}
	rows, err := q.db.reads.Query(q.ctx, schema.ExemplarRead, ids, start, end, maxExemplars)
	if err != nil {
		return unavailable(err)
	}
	var (
		id, t int64
		value float64
		text  []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &t, &value, &text}, func() error {
		found[uint64(id)].add(t, value, string(text))
		return nil
	})
	if err != nil {
		return unavailable(err)
	}
	return nil
}

func results(found map[uint64]*exemplarsOf) ([]exemplar.QueryResult, error) {
	var out []exemplar.QueryResult
	for _, of := range found {
		if len(of.all) == 0 {
			continue
		}
		ids := make([]exemplarID, 0, len(of.all))
		for id := range of.all {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b exemplarID) int {
			return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(math.Float64frombits(a.value), math.Float64frombits(b.value)), strings.Compare(a.labels, b.labels))
		})
		r := exemplar.QueryResult{SeriesLabels: of.labels}
		for _, id := range ids {
			l, err := readLabels([]byte(id.labels))
			if err != nil {
				return nil, err
			}
			r.Exemplars = append(r.Exemplars, exemplar.Exemplar{Labels: l, Value: math.Float64frombits(id.value), Ts: id.t, HasTs: true})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	return out, nil
}
