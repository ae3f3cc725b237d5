package sqltest

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m, Fill: migrate}, pgtest.IgnoreServers()...)
}

func migrate(ctx context.Context, pg *pgtest.DB) error {
	_, err := storage.Migrate(ctx, storage.Config{URI: pg.URI, TimescaleDB: mode(pg), Logger: slog.New(slog.DiscardHandler)})
	return err
}

// day is a day that begins a window and a day.
var day = time.UnixMilli(20_000 * 24 * 3600_000).UTC()

// store is a real store whose clock the test sets. Nothing happens in the background.
type store struct {
	*storage.DB
	pg  *pgtest.DB
	now time.Time
}

func openStore(t testing.TB, pg *pgtest.DB) *store {
	t.Helper()
	s := &store{pg: pg, now: day.Add(10 * time.Hour)}
	s.open(t)
	return s
}

func (s *store) open(t testing.TB) {
	t.Helper()
	db, err := storage.Open(t.Context(), storage.Config{
		URI:           s.pg.URI,
		TimescaleDB:   mode(s.pg),
		Logger:        slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Now:           func() time.Time { return s.now },
		NoMaintenance: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	s.DB = db
}

// mode keeps databases plain that are meant to be: their owner may add the extension where the server has it.
func mode(pg *pgtest.DB) schema.TimescaleDBMode {
	if pg.HasTimescaleDB {
		return schema.TimescaleDBOn
	}
	return schema.TimescaleDBOff
}

// write commits samples of one series as one request of the tenant.
func (s *store) write(t testing.TB, tenant string, l labels.Labels, fill func(b *storage.Batch)) {
	t.Helper()
	b, err := s.NewBatch(t.Context(), tenant)
	require.NoError(t, err)
	defer b.Release()
	h := fnv.New64a()
	h.Write([]byte(l.String()))
	key := storage.Key{h.Sum64(), 1}
	if !b.Known(key) {
		b.New(key, l)
	}
	fill(b)
	require.NoError(t, b.Commit(t.Context()))
}

func (s *store) flush(t testing.TB) {
	t.Helper()
	require.NoError(t, s.Flush(t.Context()))
}

// gather merges and compresses all that is due; parts look as if they had been opened a day ago, since the database's clock
// cannot be set.
func (s *store) gather(t testing.TB) {
	t.Helper()
	for range 2 {
		s.exec(t, "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
		require.NoError(t, s.Maintain(t.Context()))
	}
}

func (s *store) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := s.pg.Pool(t).Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

type queryer interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}

type sample struct {
	t int64
	v float64
}

// query asks the querier of the Go side for all float samples in [mint, maxt] that match, by labels.
func (s *store) query(t testing.TB, tenant string, mint, maxt int64, ms ...*labels.Matcher) map[string][]sample {
	t.Helper()
	q, err := s.Querier(mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(storage.WithTenant(t.Context(), tenant), true, nil, ms...)
	out := map[string][]sample{}
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		name := set.At().Labels().MatchLabels(false, "__name__").String()
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind == chunkenc.ValFloat {
				ts, v := it.At()
				out[name] = append(out[name], sample{ts, v})
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

// sqlSamples asks SQL for samples, by labels in the notation of labels.Labels.
func sqlSamples(t testing.TB, conn interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, where string, args ...any) map[string][]sample {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT time, coalesce(value, 'NaN'), labels FROM promkeep.samples(`+where+`) ORDER BY series_id, time`, args...)
	require.NoError(t, err)
	out := map[string][]sample{}
	for rows.Next() {
		var at time.Time
		var v float64
		var l map[string]string
		require.NoError(t, rows.Scan(&at, &v, &l))
		require.Zero(t, at.Nanosecond()%1_000_000, "not a whole millisecond")
		name := labels.FromMap(l).String()
		out[name] = append(out[name], sample{at.UnixMilli(), v})
	}
	require.NoError(t, rows.Err())
	return out
}

func lset(name string, i int) labels.Labels {
	return labels.FromStrings("__name__", name, "i", fmt.Sprint(i), "job", "test")
}

func eq(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}
