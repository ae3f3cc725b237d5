package promql

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	keep "github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// stage says where the samples lie when they are read.
type stage int

const (
	inHead  stage = iota // in memory, acknowledged and not flushed
	flushed              // recent rows in the database, none in memory
	merged               // rows of whole days in the long-term store, none in memory
	spread               // alternately in all of these
)

func (s stage) String() string { return [...]string{"head", "flushed", "merged", "spread"}[s] }

// store is a promkeep on a database of its own, for tests that write and read in process.
type store struct {
	*keep.DB
	pg     *pgtest.DB
	tenant atomic.Int64
	conns  *pgxpool.Pool
	ahead  atomic.Int64 // ns, of the store's clock before the machine's
}

// openStore opens a promkeep that flushes and merges when the test says so, and keeps nothing in memory that is flushed.
func openStore(t testing.TB, pg *pgtest.DB) *store {
	t.Helper()
	s := &store{pg: pg, conns: pg.Pool(t)}
	db, err := keep.Open(context.Background(), keep.Config{
		URI:           pg.URI,
		Logger:        slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Retention:     100 * 365 * 24 * time.Hour, // The corpus begins in 1970.
		CacheWindow:   time.Millisecond,
		CacheBytes:    1,
		Now:           s.now,
		NoMaintenance: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s.DB = db
	return s
}

func (s *store) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// moveTo brings everything written so far to the stage.
func (s *store) moveTo(ctx context.Context, to stage) error {
	if to == inHead {
		return nil
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if to == flushed {
		return s.Maintain(ctx)
	}
	// What was flushed is merged when the two hours are over in which it was, and that when its day is, for the store's clock and for the database's,
	// which cannot be set. The clock goes no further: of each day that it comes to there are tables.
	s.ahead.Add(int64(2 * time.Hour))
	if err := s.Maintain(ctx); err != nil {
		return err
	}
	var youngest int64 // ms, the day
	err := s.conns.QueryRow(ctx, `WITH opened AS (UPDATE _promkeep.part SET opened_at = opened_at - interval '2 days' WHERE level = 1 RETURNING window_start)
		SELECT coalesce(max(window_start), 0) FROM opened`).Scan(&youngest)
	if err != nil {
		return err
	}
	if over := time.UnixMilli(youngest).Add(28 * time.Hour); over.After(s.now()) { // of which late samples have three
		s.ahead.Add(int64(over.Sub(s.now())))
	}
	if err := s.Maintain(ctx); err != nil {
		return err
	}
	var left int
	if err := s.conns.QueryRow(ctx, "SELECT count(*) FROM _promkeep.recent").Scan(&left); err != nil || left > 0 {
		return errors.Join(err, fmt.Errorf("%d rows are not merged", left))
	}
	return nil
}

// fresh is an empty storage.Storage in the store: a tenant of its own. What it takes is at the stage once it is committed.
func (s *store) fresh(to stage) *tenantStorage {
	return &tenantStorage{store: s, name: fmt.Sprintf("tenant-%d", s.tenant.Add(1)), stage: to}
}

// tenantStorage is what upstream's tests want: it writes through the log and reads through the querier of promkeep.
type tenantStorage struct {
	store   *store
	name    string
	stage   stage
	commits int
}

var _ storage.Storage = (*tenantStorage)(nil)

func (*tenantStorage) StartTime() (int64, error) { return 0, nil }
func (*tenantStorage) Close() error              { return nil }

func (s *tenantStorage) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &appender{ctx: ctx, storage: s, series: map[string]int{}}
}

func (s *tenantStorage) Appender(ctx context.Context) storage.Appender {
	return &appenderV1{limited: storage.AppenderV2AsLimitedV1(s.AppenderV2(ctx))}
}

func (s *tenantStorage) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.store.Querier(mint, maxt)
	return &tenantQuerier{q, s.name}, err
}

func (s *tenantStorage) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := s.store.ChunkQuerier(mint, maxt)
	return &tenantChunkQuerier{q, s.name}, err
}

type tenantQuerier struct {
	storage.Querier
	tenant string
}

func (q *tenantQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(keep.WithTenant(ctx, q.tenant), sorted, hints, ms...)
}

func (q *tenantQuerier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.Querier.LabelValues(keep.WithTenant(ctx, q.tenant), name, hints, ms...)
}

func (q *tenantQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.Querier.LabelNames(keep.WithTenant(ctx, q.tenant), hints, ms...)
}

type tenantChunkQuerier struct {
	storage.ChunkQuerier
	tenant string
}

func (q *tenantChunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	return q.ChunkQuerier.Select(keep.WithTenant(ctx, q.tenant), sorted, hints, ms...)
}

// appender collects samples by series and writes them as one batch, or, to spread them, as several.
type appender struct {
	ctx     context.Context
	storage *tenantStorage
	series  map[string]int
	labels  []labels.Labels
	samples [][]pendingSample
}

type pendingSample struct {
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

func (a *appender) Append(_ storage.SeriesRef, l labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	key := l.String()
	i, ok := a.series[key]
	if !ok {
		i = len(a.labels)
		a.series[key] = i
		a.labels = append(a.labels, l)
		a.samples = append(a.samples, nil)
	}
	a.samples[i] = append(a.samples[i], pendingSample{t: t, st: st, v: v, h: h, fh: fh})
	return storage.SeriesRef(i + 1), nil
}

func (a *appender) Commit() error {
	a.storage.commits++
	to := a.storage.stage
	if to != spread {
		if err := a.write(func(int) bool { return true }); err != nil {
			return err
		}
		return a.storage.store.moveTo(a.ctx, to)
	}
	for part, to := range []stage{merged, flushed, inHead} {
		if err := a.write(func(i int) bool { return i%3 == part }); err != nil {
			return err
		}
		if err := a.storage.store.moveTo(a.ctx, to); err != nil {
			return err
		}
	}
	return nil
}

func (a *appender) Rollback() error { return nil }

// write commits the samples whose place in their series is wanted.
func (a *appender) write(want func(i int) bool) error {
	b, err := a.storage.store.NewBatch(a.ctx, a.storage.name)
	if err != nil {
		return err
	}
	defer b.Release()
	for i, l := range a.labels {
		first := true
		for k, s := range a.samples[i] {
			if !want(k) {
				continue
			}
			if key := keyOf(l); first && !b.Known(key) {
				b.New(key, l)
			}
			first = false
			switch {
			case s.fh != nil:
				err = b.FloatHistogram(s.t, s.st, s.fh)
			case s.h != nil:
				err = b.Histogram(s.t, s.st, s.h)
			default:
				b.Float(s.t, s.st, s.v)
			}
			if err != nil {
				return err
			}
		}
	}
	return b.Commit(a.ctx)
}

func keyOf(l labels.Labels) (k keep.Key) {
	h := fnv.New128a()
	h.Write([]byte(l.String()))
	for i, b := range h.Sum(nil) {
		k[i/8] = k[i/8]<<8 | uint64(b)
	}
	return k
}

// appenderV1 is derived from the second version; what that has no place for is refused.
type appenderV1 struct{ limited storage.LimitedAppenderV1 }

func (a *appenderV1) Commit() error                        { return a.limited.Commit() }
func (a *appenderV1) Rollback() error                      { return a.limited.Rollback() }
func (*appenderV1) SetOptions(opts *storage.AppendOptions) {}

func (a *appenderV1) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	return a.limited.Append(ref, l, t, v)
}

func (a *appenderV1) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return a.limited.AppendHistogram(ref, l, t, h, fh)
}

func (*appenderV1) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, storage.ErrOutOfOrderST
}

func (*appenderV1) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, storage.ErrOutOfOrderST
}

func (*appenderV1) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, storage.ErrExemplarsDisabled
}

func (*appenderV1) UpdateMetadata(ref storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return ref, nil
}
