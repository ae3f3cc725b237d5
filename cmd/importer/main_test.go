package importer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// today is the day up to which the tests have history; now is when they run.
var (
	today = time.UnixMilli(20_000 * 24 * 3600_000).UTC()
	now   = today.Add(10*time.Hour + 7*time.Minute)
)

func testConfig(t testing.TB, pg *pgtest.DB) storage.Config {
	mode := schema.TimescaleDBOff
	if pg.HasTimescaleDB {
		mode = schema.TimescaleDBAuto
	}
	return storage.Config{
		URI: pg.URI, TimescaleDB: mode, Now: func() time.Time { return now }, NoMaintenance: true,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func serve(t testing.TB, pg *pgtest.DB) *storage.DB {
	t.Helper()
	db, err := storage.Open(context.Background(), testConfig(t, pg))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func options() Options {
	return Options{Mint: math.MinInt64, Maxt: math.MaxInt64, Concurrency: 2, Logger: slog.New(slog.DiscardHandler)}
}

// runImport imports with the function, and returns what it counted.
func runImport(t testing.TB, pg *pgtest.DB, o Options, dry bool, run func(*Importer) error) *storage.ImportStats {
	t.Helper()
	to, err := storage.OpenImport(context.Background(), testConfig(t, pg), storage.ImportOptions{Tenant: o.Tenant, DryRun: dry})
	require.NoError(t, err)
	defer to.Close()
	require.NoError(t, run(New(to, o)))
	return &to.Stats
}

// history writes samples of all kinds, of the three days before now, to blocks as a Prometheus has them: of two hours, of a
// day, and two that overlap.
func history(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	begin := today.Add(-2 * 24 * time.Hour)
	block(t, dir, begin, begin.Add(24*time.Hour), time.Minute)
	for at := begin.Add(24 * time.Hour); at.Before(today); at = at.Add(6 * time.Hour) {
		block(t, dir, at, at.Add(6*time.Hour), 30*time.Second)
	}
	for at := today; at.Before(now); at = at.Add(2 * time.Hour) {
		block(t, dir, at, at.Add(2*time.Hour), 15*time.Second)
	}
	block(t, dir, today.Add(3*time.Hour), today.Add(4*time.Hour), 20*time.Second)
	return dir
}

// block writes one block with samples in [from, to).
func block(t testing.TB, dir string, from, to time.Time, every time.Duration) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*to.Sub(from).Milliseconds())
	require.NoError(t, err)
	defer w.Close()
	app := w.Appender(context.Background())
	add := func(at time.Time, v float64, pairs ...string) {
		_, err := app.Append(0, labels.FromStrings(pairs...), at.UnixMilli(), v)
		require.NoError(t, err)
	}
	for at := from; at.Before(to) && at.Before(now); at = at.Add(every) {
		// Where blocks overlap they agree: Prometheus' answer would depend on the range that it is asked for otherwise.
		n := int(at.Unix() / 5)
		x := float64(at.Unix() - today.Unix())
		for i := range 5 {
			is := fmt.Sprint(i)
			add(at, math.Floor(x*float64(i+1))+1e7, "__name__", "requests_total", "i", is, "job", "a")
			add(at, math.Sin(x/1000)*100/3+float64(i), "__name__", "temperature", "i", is, "job", "b")
		}
		// One pod an hour, which ends with a stale marker.
		pod := at.Truncate(time.Hour)
		v := x
		if at.Add(time.Minute).Truncate(time.Hour) != pod {
			v = math.Float64frombits(value.StaleNaN)
		}
		add(at, v, "__name__", "pod_up", "pod", pod.Format("pod-02-15"))
		switch n % 7 {
		case 0:
			add(at, math.Float64frombits(value.NormalNaN), "__name__", "odd")
		case 1:
			add(at, math.Inf(-1), "__name__", "odd")
		case 2:
			add(at, math.Copysign(0, -1), "__name__", "odd")
		default:
			add(at, 5e-324*float64(n), "__name__", "odd")
		}
		h := tsdbutil.GenerateTestHistogram(int64(n % 500))
		_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "latency"), at.UnixMilli(), h, nil)
		require.NoError(t, err)
		fh := tsdbutil.GenerateTestGaugeFloatHistogram(int64(n % 50))
		if n%40 == 39 {
			fh = &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
		_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "sizes"), at.UnixMilli(), nil, fh)
		require.NoError(t, err)
		_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "custom"), at.UnixMilli(), tsdbutil.GenerateTestCustomBucketsHistogram(int64(n%300)), nil)
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	_, err = w.Flush(context.Background())
	require.NoError(t, err)
}

// openTSDB opens blocks as a Prometheus does.
func openTSDB(t testing.TB, dir string) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = 0
	// A copy, since opening writes.
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	require.NoError(t, os.RemoveAll(filepath.Join(to, "wal")))
	db, err := tsdb.Open(to, slog.New(slog.DiscardHandler), nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { db.Close() })
	return db
}

// raw is every sample in [mint, maxt], as text, by labels.
func raw(t testing.TB, q promstorage.Queryable, mint, maxt int64, extra labels.Labels, ms ...*labels.Matcher) map[string][]string {
	t.Helper()
	if len(ms) == 0 {
		ms = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")}
	}
	querier, err := q.Querier(mint, maxt)
	require.NoError(t, err)
	defer querier.Close()
	set := querier.Select(context.Background(), true, nil, ms...)
	out := map[string][]string{}
	var it chunkenc.Iterator
	b := labels.NewBuilder(labels.EmptyLabels())
	for set.Next() {
		s := set.At()
		b.Reset(s.Labels())
		extra.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		name := b.Labels().String()
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			var text string
			switch kind {
			case chunkenc.ValFloat:
				at, v := it.At()
				text = fmt.Sprintf("%d %x", at, math.Float64bits(v))
			case chunkenc.ValHistogram:
				at, h := it.AtHistogram(nil)
				text = fmt.Sprintf("%d %s %x", at, expression(h.ToFloat(nil)), math.Float64bits(h.Sum))
			case chunkenc.ValFloatHistogram:
				at, h := it.AtFloatHistogram(nil)
				text = fmt.Sprintf("%d %s %x", at, expression(h), math.Float64bits(h.Sum))
			}
			out[name] = append(out[name], text)
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

// expression is a histogram as text. That a counter was not reset is not always known to Prometheus.
func expression(h *histogram.FloatHistogram) string {
	if h.CounterResetHint == histogram.NotCounterReset {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return h.TestExpression()
}

func count(all map[string][]string) (n int) {
	for _, s := range all {
		n += len(s)
	}
	return n
}

// same compares all samples, and says which series differ first.
func same(t testing.TB, want, got map[string][]string) {
	t.Helper()
	for name, samples := range want {
		require.Contains(t, got, name)
		for i, s := range samples {
			require.Less(t, i, len(got[name]), "%s: only %d samples of %d", name, len(got[name]), len(samples))
			require.Equal(t, s, got[name][i], "%s, sample %d of %d", name, i, len(samples))
		}
		require.Len(t, got[name], len(samples), name)
	}
	require.Len(t, got, len(want))
}

// texts are float samples as raw has them.
func texts(samples map[int64]float64) (out []string) {
	for _, at := range slices.Sorted(maps.Keys(samples)) {
		out = append(out, fmt.Sprintf("%d %x", at, math.Float64bits(samples[at])))
	}
	return out
}
