package promql

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

var (
	differentialSeed    = flag.Uint64("differential.seed", 1, "seed of the data and the queries")
	differentialQueries = flag.Int("differential.queries", 1000, "how many queries to compare in process")
)

// The data of the differential test: four hours over midnight, so over windows and days.
var (
	differentialStart  = time.Date(2024, 2, 28, 22, 0, 0, 0, time.UTC)
	differentialLength = 4 * time.Hour
)

// TestDifferential writes the same samples to promkeep and to Prometheus' own TSDB and compares in process what the engine makes
// of both; TestDifferentialPrometheus does it over HTTP. Here series come sorted, so that every bit is compared, and with start
// timestamps, which the remote-write receiver of Prometheus does not keep: gaps, resets, stale markers, late samples, churn, histograms, special values; in promkeep they lie in the long-term
// store, in recent rows and in memory. A failure prints the smallest query that still fails, and the seed.
func TestDifferential(t *testing.T) {
	seed := *differentialSeed
	reference := teststorage.New(t, func(o *tsdb.Options) {
		o.OutOfOrderTimeWindow = differentialLength.Milliseconds()
		o.EnableSTStorage = true
		o.FloatChunkEncoding = chunkenc.EncXOR2
		o.EnableHistogramSTEncoding = true
	})
	keep := openStore(t, pgtest.New(t)).fresh(inHead)
	n := 0
	for i, batch := range differentialData(seed) {
		for _, to := range []storage.AppendableV2{reference, keep} {
			a := to.AppenderV2(context.Background())
			for _, s := range batch.samples {
				_, err := a.Append(0, s.labels, s.st, s.t, s.v, s.h, s.fh, storage.AppendV2Options{})
				require.NoError(t, err)
			}
			require.NoError(t, a.Commit())
		}
		n += len(batch.samples)
		require.NoError(t, keep.store.moveTo(context.Background(), batch.to), "batch %d", i)
	}
	t.Logf("seed %d: %d samples", seed, n)

	var engines, plain []*Engine // with kernels, and for Prometheus without
	for _, delayed := range []bool{false, true, false, true} {
		e := NewEngine(EngineOptions{MaxSamples: 2_000_000, Timeout: time.Minute,
			Features: Features{Parser: promqltest.TestParserOpts, DelayedNameRemoval: delayed, StartTimestamps: delayed}})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		if len(engines) < 2 {
			engines = append(engines, e)
		} else {
			e.kernels = nil
			plain = append(plain, e)
		}
	}
	start, length := differentialStart.Unix(), int64(differentialLength.Seconds())
	g := newGenerator(seed, start, length)
	outcomes := map[string]int{}
	for i := range *differentialQueries {
		run := randomEvaluation(g)
		run.engine, run.plain = engines[i%2], plain[i%2]
		query := g.query(run.instant)
		outcomes[run.outcome(reference, query.String())]++
		difference, certain := run.compare(query.String(), reference, keep)
		if !certain {
			outcomes["undecided by the engine"]++
		}
		if difference == "" {
			continue
		}
		small := shrink(query, func(e *expr) bool {
			difference, _ := run.compare(e.String(), reference, keep)
			return difference != ""
		})
		difference, _ = run.compare(small.String(), reference, keep)
		t.Errorf("-differential.seed=%d, query %d, delayed name removal %v, %s:\n%s\nsmallest: %s\n%s",
			seed, i, i%2 == 1, run, query, small, difference)
		if outcomes["different"]++; outcomes["different"] >= 10 {
			break
		}
	}
	t.Logf("outcomes: %v", outcomes)
	if t.Failed() {
		return
	}
	require.Less(t, outcomes["undecided by the engine"], *differentialQueries/20)
	require.Greater(t, outcomes["series"], *differentialQueries/4, "too few of the queries have an answer to tell anything")
}

// randomEvaluation is anywhere around the data.
func randomEvaluation(g *generator) evaluation {
	run := evaluation{instant: g.chance(40)}
	run.start = differentialStart.Add(time.Duration(g.Int64N(int64(differentialLength.Seconds())+1200)-600) * time.Second)
	if g.chance(20) {
		run.start = run.start.Add(time.Duration(g.IntN(1000)) * time.Millisecond)
	}
	run.step = pick(g, 15*time.Second, 30*time.Second, time.Minute, 5*time.Minute, 37*time.Second)
	run.end = run.start.Add(run.step * time.Duration(g.IntN(60)))
	return run
}

// evaluation is when and how a query is evaluated.
type evaluation struct {
	engine     *Engine
	plain      *Engine // for other storages than ours
	instant    bool
	start, end time.Time
	step       time.Duration
}

func (v evaluation) String() string {
	if v.instant {
		return "at " + v.start.Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("from %s to %s by %s", v.start.Format(time.RFC3339Nano), v.end.Format(time.RFC3339Nano), v.step)
}

func (v evaluation) exec(q storage.Queryable, query string) (upstream.Query, *upstream.Result) {
	ctx := context.Background()
	var (
		out upstream.Query
		err error
	)
	engine := v.plain
	if _, ours := q.(*tenantStorage); ours {
		engine = v.engine
	}
	if v.instant {
		out, err = engine.NewInstantQuery(ctx, sorted{q}, nil, query, v.start)
	} else {
		out, err = engine.NewRangeQuery(ctx, sorted{q}, nil, query, v.start, v.end, v.step)
	}
	if err != nil {
		return nil, &upstream.Result{Err: err}
	}
	return out, out.Exec(ctx)
}

// repeats is how often a query is asked to learn whether the engine makes up its mind: it walks maps in places, so that
// ties of topk, the order of a result or the last bit of a deviation can differ from run to run over the same samples.
const repeats = 12

// compare returns how the answers differ, or "". An answer that Prometheus gives in one of its runs is right; certain tells
// that it always gives the same.
func (v evaluation) compare(query string, reference, other storage.Queryable) (difference string, certain bool) {
	want, got := v.print(reference, query), v.print(other, query)
	if slices.Equal(want, got) {
		return "", true
	}
	for range repeats {
		again := v.print(reference, query)
		if slices.Equal(again, got) || slices.Equal(want, v.print(other, query)) {
			return "", false
		}
		if !slices.Equal(again, want) {
			return "", false
		}
	}
	var out []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			out = append(out, "prometheus: "+line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			out = append(out, "promkeep:   "+line)
		}
	}
	if len(out) == 0 {
		return "the order differs", true
	}
	if len(out) > 12 {
		out = append(out[:12], "…")
	}
	return strings.Join(out, "\n"), true
}

func (v evaluation) outcome(q storage.Queryable, query string) string {
	qry, res := v.exec(q, query)
	if qry != nil {
		defer qry.Close()
	}
	switch {
	case qry == nil:
		return "not parsed"
	case res.Err != nil:
		return "error"
	}
	switch x := res.Value.(type) {
	case upstream.Vector:
		if len(x) == 0 {
			return "empty"
		}
	case upstream.Matrix:
		if len(x) == 0 {
			return "empty"
		}
	default:
		return "scalar"
	}
	return "series"
}

// print writes an answer with every bit that counts, a line per point, with annotations and errors.
func (v evaluation) print(q storage.Queryable, query string) []string {
	qry, res := v.exec(q, query)
	if qry != nil {
		defer qry.Close()
	}
	if res.Err != nil {
		return []string{"error: " + res.Err.Error()}
	}
	var out []string
	point := func(l labels.Labels, t int64, f float64, h *histogram.FloatHistogram) {
		if h == nil {
			out = append(out, fmt.Sprintf("%s %d %v %x", l, t, f, math.Float64bits(f)))
			return
		}
		// Where Prometheus says "unknown" depends on where its chunks happen to begin.
		h = h.Copy()
		if h.CounterResetHint != histogram.GaugeType {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		out = append(out, fmt.Sprintf("%s %d %s sum %x count %x", l, t, h.TestExpression(), math.Float64bits(h.Sum), math.Float64bits(h.Count)))
	}
	switch x := res.Value.(type) {
	case upstream.Scalar:
		point(labels.EmptyLabels(), x.T, x.V, nil)
	case upstream.String:
		out = append(out, fmt.Sprintf("%d %q", x.T, x.V))
	case upstream.Vector:
		for _, s := range x {
			point(s.Metric, s.T, s.F, s.H)
		}
	case upstream.Matrix:
		for _, s := range x {
			for _, p := range s.Floats {
				point(s.Metric, p.T, p.F, nil)
			}
			for _, p := range s.Histograms {
				point(s.Metric, p.T, 0, p.H)
			}
		}
	}
	warnings, infos := res.Warnings.AsStrings(query, 0, 0)
	slices.Sort(warnings)
	slices.Sort(infos)
	return append(append(out, warnings...), infos...)
}

// sorted has both storages give their series in the same order, on which the last bit of a sum depends, and which the engine
// leaves to the storage.
type sorted struct{ storage.Queryable }

func (s sorted) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(mint, maxt)
	return sortedQuerier{q}, err
}

type sortedQuerier struct{ storage.Querier }

func (q sortedQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, hints, ms...)
}

type dataSample struct {
	labels labels.Labels
	t, st  int64
	v      float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

// dataBatch is what is written at once, and where it lies afterwards, together with all before it.
type dataBatch struct {
	samples []dataSample
	to      stage
}

// differentialData makes the samples in the order in which they arrive.
func differentialData(seed uint64) []dataBatch {
	r := rand.New(rand.NewPCG(seed, 1))
	begin, end := differentialStart.UnixMilli(), differentialStart.Add(differentialLength).UnixMilli()
	span := end - begin
	batches := []dataBatch{{to: merged}, {to: flushed}, {to: inHead}}
	add := func(s dataSample) {
		at := int((s.t - begin) * 3 / span)
		if r.IntN(50) == 0 {
			at += 1 + r.IntN(2) // It comes late, into what is flushed or merged already.
		}
		at = min(max(at, 0), 2)
		batches[at].samples = append(batches[at].samples, s)
	}
	stale := math.Float64frombits(value.StaleNaN)
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 5e-324, math.MaxFloat64, 1, -1e-300}
	each := func(l labels.Labels, from, to int64, sample func(i int, s *dataSample) bool) {
		interval := []int64{15_000, 15_000, 30_000, 10_000}[r.IntN(4)]
		offset := r.Int64N(interval)
		for i, t := 0, from+offset; t < to; i, t = i+1, t+interval {
			s := dataSample{labels: l, t: t + r.Int64N(20)} // a scrape is never quite on time
			if sample(i, &s) {
				add(s)
			}
		}
	}
	var pairs [][2]string
	for _, job := range []string{"a", "b", "c"} {
		for _, instance := range []string{"0", "1", "2", "3"} {
			if r.IntN(4) > 0 {
				pairs = append(pairs, [2]string{job, instance})
			}
		}
	}
	for _, p := range pairs {
		with := func(name string, more ...string) labels.Labels {
			return labels.FromStrings(append([]string{"__name__", name, "job", p[0], "instance", p[1]}, more...)...)
		}
		each(with("m_gauge"), begin, end, func(_ int, s *dataSample) bool { s.v = r.NormFloat64() * 100; return r.IntN(100) > 0 })
		counter, started := 0.0, int64(0)
		each(with("m_counter"), begin, end, func(_ int, s *dataSample) bool {
			if counter += r.Float64() * 10; r.IntN(200) == 0 {
				counter, started = 0, s.t-1
			}
			s.v, s.st = counter, started
			return r.IntN(150) > 0
		})
		whole := 0
		each(with("m_int"), begin, end, func(_ int, s *dataSample) bool { whole += r.IntN(5) - 1; s.v = float64(whole); return true })
		each(with("m_const"), begin, end, func(_ int, s *dataSample) bool { s.v = 42; return true })
		gone := 0
		each(with("m_sparse"), begin, end, func(i int, s *dataSample) bool {
			if gone > 0 {
				gone--
				return false
			}
			if s.v = float64(i); r.IntN(60) == 0 {
				s.v, gone = stale, 5+r.IntN(80)
			}
			return true
		})
		each(with("m_special"), begin, end, func(_ int, s *dataSample) bool {
			if s.v = r.Float64(); r.IntN(10) == 0 {
				s.v = special[r.IntN(len(special))]
			}
			return true
		})
		each(with("target_info", "version", "v"+p[1]), begin, end, func(_ int, s *dataSample) bool { s.v = 1; return true })
		for n := range 3 {
			from := begin + r.Int64N(span)
			to := min(end, from+r.Int64N(span/3))
			each(with("m_churn", "pod", fmt.Sprintf("p-%s-%d", p[1], n)), from, to, func(i int, s *dataSample) bool {
				s.v = float64(i * n)
				return true
			})
		}
		var buckets [4]float64
		total, sum := 0.0, 0.0
		each(with("m_bucket", "le", "+Inf"), begin, end, func(_ int, s *dataSample) bool {
			for k, le := range []string{"0.1", "0.5", "2.5", "10"} {
				for j := k; j < 4; j++ {
					buckets[j] += float64(r.IntN(3))
				}
				add(dataSample{labels: with("m_bucket", "le", le), t: s.t, v: buckets[k]})
			}
			total = buckets[3] + float64(r.IntN(3))
			sum += r.Float64()
			add(dataSample{labels: with("m_sum"), t: s.t, v: sum})
			add(dataSample{labels: with("m_count"), t: s.t, v: total})
			s.v = total
			return true
		})
		n := int64(r.IntN(100))
		each(with("m_native"), begin, end, func(_ int, s *dataSample) bool {
			if n++; r.IntN(100) == 0 {
				n = 0
			}
			s.h = tsdbutil.GenerateTestHistogram(n)
			if r.IntN(20) == 0 {
				// A peak is a reset at the sample after it: also when the peak comes late.
				s.h = tsdbutil.GenerateTestHistogram(n + 50)
			}
			if r.IntN(150) == 0 {
				s.h = &histogram.Histogram{Sum: stale}
			}
			return r.IntN(80) > 0
		})
		each(with("m_float_native"), begin, end, func(i int, s *dataSample) bool {
			s.fh = tsdbutil.GenerateTestFloatHistogram(int64(i))
			return true
		})
		each(with("m_gauge_native"), begin, end, func(_ int, s *dataSample) bool {
			s.h = tsdbutil.GenerateTestGaugeHistogram(int64(r.IntN(100)))
			return true
		})
		each(with("m_custom"), begin, end, func(i int, s *dataSample) bool {
			s.h = tsdbutil.GenerateTestCustomBucketsHistogram(int64(i))
			return true
		})
		each(with("m_mixed"), begin, end, func(i int, s *dataSample) bool {
			if i/7%2 == 0 {
				s.v = float64(i)
			} else {
				s.h = tsdbutil.GenerateTestHistogram(int64(i))
			}
			return true
		})
	}
	for _, b := range batches {
		// As they come in: by time, so that within a batch only the late ones are out of order.
		slices.SortStableFunc(b.samples, func(x, y dataSample) int { return int(x.t - y.t) })
	}
	return batches
}
