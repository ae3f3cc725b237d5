package storage

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m, Fill: migrated}, pgtest.IgnoreServers()...)
}

// migrated is a database that the latest promkeep has migrated and nothing has been written to.
func migrated(ctx context.Context, pg *pgtest.DB) error {
	_, err := Migrate(ctx, Config{URI: pg.URI, TimescaleDB: modeFor(pg), Logger: slog.New(slog.DiscardHandler)})
	return err
}

// modeFor keeps databases plain that are meant to be: on one without TimescaleDB promkeep must not create it, although it may.
func modeFor(pg *pgtest.DB) schema.TimescaleDBMode {
	if pg.HasTimescaleDB {
		return schema.TimescaleDBAuto
	}
	return schema.TimescaleDBOff
}

// clock is a settable time.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// day is a day that begins a window and a day.
var day = time.UnixMilli(20_000 * 24 * 3600_000).UTC()

// testConfig is for a database of pgtest.
func testConfig(t testing.TB, pg *pgtest.DB, c *clock) Config {
	return Config{
		URI:           pg.URI,
		TimescaleDB:   modeFor(pg),
		Logger:        slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Now:           c.Now,
		NoMaintenance: true,
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func open(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { pgtest.Close(t, "the store", func() { db.Close() }) })
	return db
}

type sample struct {
	t int64
	v float64
}

func keyOf(l labels.Labels) Key {
	h := fnv.New128a()
	h.Write([]byte(l.String()))
	b := h.Sum(nil)
	var k Key
	for i := range 8 {
		k[0] = k[0]<<8 | uint64(b[i])
		k[1] = k[1]<<8 | uint64(b[8+i])
	}
	return k
}

// write commits samples of one series as one request.
func write(t testing.TB, db *DB, lset labels.Labels, samples ...sample) {
	t.Helper()
	require.NoError(t, tryWrite(db, "", lset, samples...))
}

func tryWrite(db *DB, tenant string, lset labels.Labels, samples ...sample) error {
	b, err := db.NewBatch(context.Background(), tenant)
	if err != nil {
		return err
	}
	defer b.Release()
	if key := keyOf(lset); !b.Known(key) {
		b.New(key, lset)
	}
	for _, s := range samples {
		b.Float(s.t, 0, s.v)
	}
	return b.Commit(context.Background())
}

// read returns all float samples in [mint, maxt] of the series that match, by labels.
func read(t testing.TB, db *DB, mint, maxt int64, ms ...*labels.Matcher) map[string][]sample {
	t.Helper()
	return readAs(t, context.Background(), db, mint, maxt, ms...)
}

func readAs(t testing.TB, ctx context.Context, db *DB, mint, maxt int64, ms ...*labels.Matcher) map[string][]sample {
	t.Helper()
	q, err := db.Querier(mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(ctx, true, nil, ms...)
	out := map[string][]sample{}
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		it = s.Iterator(it)
		name := s.Labels().String()
		require.NotContains(t, out, name, "a series appears twice")
		for it.Next() == chunkenc.ValFloat {
			ts, v := it.At()
			out[name] = append(out[name], sample{ts, v})
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func eq(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func lset(name string, i int) labels.Labels {
	return labels.FromStrings("__name__", name, "i", fmt.Sprint(i), "job", "test")
}
