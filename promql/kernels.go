package promql

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"
)

// A kernel is a subtree of a range query's expression, such as sum by (x) (rate(sel[5m])), that is computed below the engine:
// over arrays, on all cores, at the query's steps. In the expression a selector of the points takes its place. The result has
// the bits that the engine gives: the same operations in the same order. What a kernel does not cover to the letter makes
// the query run again without kernels.
type kernel struct {
	function  string // over the range; empty for an instant selector
	parameter float64
	aggregate parser.ItemType
	grouping  []string // sorted
	without   bool
	selector  *parser.VectorSelector
	window    time.Duration // of the function
	operation *operation    // instead of a selector
	inner     *kernel       // instead of a selector, to be aggregated
	grid      grid
}

// at makes the kernel one for the steps of a grid.
func (k *kernel) at(g grid) {
	k.grid = g
	for _, below := range []*kernel{k.inner, k.operation.of(0), k.operation.of(1)} {
		if below != nil {
			below.at(g)
		}
	}
}

// noAggregate is the zero ItemType, which is none of the operators.
const noAggregate parser.ItemType = 0

// errNotCovered means that the samples turned out to be such that the engine has to do it.
var errNotCovered = errors.New("not covered by a kernel")

// kernels rewrites expressions. It is the parser of the engine, which finds rewritten expressions under a token.
type kernels struct {
	parser.Parser
	secret string // no query text contains it
	next   atomic.Uint64
	parsed sync.Map // token → parser.Expr
}

func newKernels(p parser.Parser) *kernels {
	return &kernels{Parser: p, secret: "\x00" + rand.Text()}
}

// ParseExpr implements parser.Parser.
func (k *kernels) ParseExpr(input string) (parser.Expr, error) {
	if strings.HasPrefix(input, k.secret) {
		if e, ok := k.parsed.Load(input); ok {
			return e.(parser.Expr), nil
		}
	}
	return k.Parser.ParseExpr(input)
}

// around returns a query that does the same with its kernels computed below the engine, or the query itself if it has none.
func (k *kernels) around(ctx context.Context, e *Engine, query upstream.Query, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, interval time.Duration) upstream.Query {
	// The statistics are of what the engine itself reads.
	if interval < time.Millisecond || end.Before(start) || opts != nil && opts.EnablePerStepStats() {
		return query
	}
	lookback := e.opts.LookbackDelta
	if opts != nil && opts.LookbackDelta() > 0 {
		lookback = opts.LookbackDelta()
	}
	expr, err := k.Parser.ParseExpr(qs)
	if err != nil {
		return query
	}
	below := &kernelQueryable{
		inner: q, secret: k.secret, lookback: lookback.Milliseconds(), limit: int64(e.opts.MaxSamples),
		subqueryStep: e.opts.EvaluationInterval.Milliseconds(),
	}
	expr = below.rewrite(expr, newGrid(start.UnixMilli(), end.UnixMilli(), interval.Milliseconds()))
	if len(below.kernels) == 0 {
		return query
	}
	token := k.secret + strconv.FormatUint(k.next.Add(1), 10)
	k.parsed.Store(token, expr)
	defer k.parsed.Delete(token)
	with, err := e.Engine.NewRangeQuery(ctx, below, opts, token, start, end, interval)
	if err != nil {
		return query
	}
	return &kernelQuery{Query: query, with: with, below: below}
}

// transparent are functions that look at nothing of an argument but its value.
var transparent = map[string]bool{
	"abs": true, "ceil": true, "clamp": true, "clamp_max": true, "clamp_min": true, "exp": true, "floor": true,
	"histogram_quantile": true, "label_join": true, "label_replace": true, "ln": true, "log10": true, "log2": true,
	"round": true, "sgn": true, "sort": true, "sort_desc": true, "sqrt": true,
}

// overSubquery are functions that look at nothing of a subquery but its points.
var overSubquery = map[string]bool{
	"avg_over_time": true, "changes": true, "count_over_time": true, "delta": true, "deriv": true, "increase": true,
	"last_over_time": true, "max_over_time": true, "min_over_time": true, "quantile_over_time": true, "rate": true,
	"stddev_over_time": true, "stdvar_over_time": true, "sum_over_time": true,
}

// rewrite replaces the kernels in an expression that is evaluated at the steps of a grid.
func (q *kernelQueryable) rewrite(e parser.Expr, g grid) parser.Expr {
	if p, ok := e.(*parser.ParenExpr); ok { // stays, for the engine's annotations point at what is inside
		p.Expr = q.rewrite(p.Expr, g)
		return p
	}
	if k := kernelOf(e); k != nil {
		k.at(g)
		q.kernels = append(q.kernels, k)
		matcher := labels.MustNewMatcher(labels.MatchEqual, q.secret, strconv.Itoa(len(q.kernels)-1))
		return &parser.VectorSelector{LabelMatchers: []*labels.Matcher{matcher}, PosRange: e.PositionRange()}
	}
	switch e := e.(type) {
	case *parser.AggregateExpr:
		e.Expr = q.rewrite(e.Expr, g)
	case *parser.BinaryExpr:
		e.LHS, e.RHS = q.rewrite(e.LHS, g), q.rewrite(e.RHS, g)
	case *parser.UnaryExpr:
		e.Expr = q.rewrite(e.Expr, g)
	case *parser.Call:
		for i, arg := range e.Args {
			if transparent[e.Func.Name] {
				e.Args[i] = q.rewrite(arg, g)
			} else if s, ok := arg.(*parser.SubqueryExpr); ok && overSubquery[e.Func.Name] {
				if below := q.subqueryGrid(s, g); below.steps > 0 {
					s.Expr = q.rewrite(s.Expr, below)
				}
			}
		}
	}
	return e
}

// subqueryGrid returns the steps of a subquery, as the engine lays them: on multiples of its step. There are none if it is
// not one that only has a range, a step and an offset.
func (q *kernelQueryable) subqueryGrid(s *parser.SubqueryExpr, g grid) grid {
	if s.Timestamp != nil || s.StartOrEnd != 0 || s.RangeExpr != nil || s.StepExpr != nil || s.OriginalOffsetExpr != nil {
		return grid{}
	}
	step := s.Step.Milliseconds()
	if s.Step == 0 {
		step = q.subqueryStep
	}
	if step <= 0 {
		return grid{}
	}
	before := g.start - s.OriginalOffset.Milliseconds() - s.Range.Milliseconds()
	start := before / step * step
	if start <= before {
		start += step
	}
	return newGrid(start, g.end()-s.OriginalOffset.Milliseconds(), step)
}

// kernelOf returns the kernel that computes the expression, or nil.
func kernelOf(e parser.Expr) *kernel {
	switch e := e.(type) {
	case *parser.AggregateExpr:
		if !slices.Contains([]parser.ItemType{parser.SUM, parser.AVG, parser.MIN, parser.MAX, parser.COUNT, parser.GROUP, parser.STDDEV, parser.STDVAR}, e.Op) {
			return nil
		}
		k := kernelOf(e.Expr)
		if k == nil {
			return nil
		}
		if k.aggregate != noAggregate || k.operation != nil {
			k = &kernel{inner: k}
		}
		k.aggregate, k.grouping, k.without = e.Op, slices.Sorted(slices.Values(e.Grouping)), e.Without
		return k
	case *parser.ParenExpr:
		return kernelOf(e.Expr)
	case *parser.BinaryExpr:
		return binaryKernel(e)
	case *parser.VectorSelector:
		if plainSelector(e) {
			return &kernel{selector: e}
		}
		return nil
	default:
		return rangeKernel(e)
	}
}

func rangeKernel(e parser.Expr) *kernel {
	call, ok := e.(*parser.Call)
	if !ok || windowFunctions[call.Func.Name] == nil {
		return nil
	}
	var parameter float64
	switch len(call.Args) {
	case 1:
	case 2:
		if parameter, ok = constant(call.Args[1]); !ok {
			return nil
		}
	default:
		return nil
	}
	ms, ok := call.Args[0].(*parser.MatrixSelector)
	if !ok || ms.RangeExpr != nil || ms.Range < time.Millisecond {
		return nil
	}
	vs, ok := ms.VectorSelector.(*parser.VectorSelector)
	if !ok || !plainSelector(vs) {
		return nil
	}
	if warnsOfGauge(call.Func.Name) {
		for _, m := range vs.LabelMatchers {
			if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual && !counterName(m.Value) {
				return nil
			}
		}
	}
	return &kernel{function: call.Func.Name, parameter: parameter, selector: vs, window: ms.Range}
}

// constant returns the value of an expression of numbers only.
func constant(e parser.Expr) (float64, bool) {
	switch e := e.(type) {
	case *parser.NumberLiteral:
		return e.Val, true
	case *parser.ParenExpr:
		return constant(e.Expr)
	case *parser.BinaryExpr:
		a, ok := constant(e.LHS)
		b, too := constant(e.RHS)
		switch e.Op {
		case parser.ADD:
			a += b
		case parser.SUB:
			a -= b
		case parser.MUL:
			a *= b
		case parser.DIV:
			a /= b
		default:
			return 0, false
		}
		return a, ok && too
	}
	return 0, false
}

func plainSelector(vs *parser.VectorSelector) bool {
	return vs.Timestamp == nil && vs.StartOrEnd == 0 && vs.OriginalOffsetExpr == nil && !vs.Anchored && !vs.Smoothed
}

// warnsOfGauge tells whether the engine looks at the name of the metric to see whether it is a counter.
func warnsOfGauge(function string) bool { return function == "rate" || function == "increase" }

// counterName is how the engine knows a counter by its name.
func counterName(name string) bool {
	return strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_bucket")
}

// kernelQuery runs a query with its kernels, and if anything is amiss without, which then says what.
type kernelQuery struct {
	upstream.Query                // without kernels
	with           upstream.Query // with kernels
	below          *kernelQueryable
	without        atomic.Bool // the answer is that without kernels
	cancelled      atomic.Bool
}

// Exec implements upstream.Query.
func (q *kernelQuery) Exec(ctx context.Context) *upstream.Result {
	res := q.with.Exec(ctx)
	// Without kernels the engine would have counted no more samples than these.
	samples := q.below.samples.Load() + int64(q.with.Stats().Samples.PeakSamples)
	if res.Err == nil && samples <= q.below.limit || q.cancelled.Load() {
		return res
	}
	q.without.Store(true)
	return q.Query.Exec(ctx)
}

// Stats implements upstream.Query.
func (q *kernelQuery) Stats() *stats.Statistics {
	if q.without.Load() {
		return q.Query.Stats()
	}
	return q.with.Stats()
}

// Close implements upstream.Query.
func (q *kernelQuery) Close() {
	q.with.Close()
	q.Query.Close()
}

// Cancel implements upstream.Query.
func (q *kernelQuery) Cancel() {
	q.cancelled.Store(true)
	q.with.Cancel()
	q.Query.Cancel()
}

// kernelQueryable answers the selectors that stand for kernels, and hands on all others.
type kernelQueryable struct {
	inner        storage.Queryable
	secret       string // the label name of such selectors
	kernels      []*kernel
	lookback     int64 // ms
	limit        int64 // of samples
	subqueryStep int64 // ms, of those that name none
	samples      atomic.Int64
}

// Querier implements storage.Queryable.
func (q *kernelQueryable) Querier(mint, maxt int64) (storage.Querier, error) {
	inner, err := q.inner.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &kernelQuerier{Querier: inner, below: q}, nil
}

type kernelQuerier struct {
	storage.Querier
	below   *kernelQueryable
	running sync.WaitGroup
}

// Close implements storage.Querier.
func (q *kernelQuerier) Close() error {
	q.running.Wait()
	return q.Querier.Close()
}

// Select implements storage.Querier. Kernels of one query are computed at the same time.
func (q *kernelQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if len(ms) != 1 || ms[0].Name != q.below.secret {
		return q.Querier.Select(ctx, sorted, hints, ms...)
	}
	i, err := strconv.Atoi(ms[0].Value)
	if err != nil || i < 0 || i >= len(q.below.kernels) {
		return storage.ErrSeriesSet(fmt.Errorf("%w: kernel %q", errNotCovered, ms[0].Value))
	}
	set := &pointsSet{done: make(chan struct{})}
	q.running.Go(func() {
		defer close(set.done)
		defer func() {
			if r := recover(); r != nil {
				set.series, set.err = nil, fmt.Errorf("%w: %v", errNotCovered, r)
			}
		}()
		set.series, set.err = q.below.compute(ctx, q.below.kernels[i])
	})
	return set
}
