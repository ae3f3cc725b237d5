package promql

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/stats"
)

// Defaults of EngineOptions: those of Prometheus, and a bound on the queue, which Prometheus leaves open.
const (
	DefaultTimeout            = 2 * time.Minute
	DefaultMaxSamples         = 50_000_000
	DefaultMaxConcurrency     = 20
	DefaultMaxQueued          = 500
	DefaultLookbackDelta      = 5 * time.Minute
	DefaultEvaluationInterval = time.Minute
)

// EngineOptions says how queries are evaluated. The zero value of every field means its default.
type EngineOptions struct {
	// Timeout ends a query, the time in the queue included (--query.timeout).
	Timeout time.Duration
	// MaxSamples is how many samples one query may hold in memory at once (--query.max-samples).
	MaxSamples int
	// MaxConcurrency is how many queries are evaluated at once (--query.max-concurrency).
	MaxConcurrency int
	// MaxQueued is how many more may wait for their turn; past it a query is refused with 503.
	MaxQueued int
	// LookbackDelta is how far back an instant selector looks for a sample (--query.lookback-delta).
	LookbackDelta time.Duration
	// EvaluationInterval is the step of a subquery that names none; Prometheus takes it from its configuration file.
	EvaluationInterval time.Duration

	// Features holds what --enable-feature switches on; see EnableFeature.
	Features Features

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Features are the experimental parts of PromQL that Prometheus has behind --enable-feature, off by default there and here.
type Features struct {
	// Parser has the experimental functions and syntax.
	Parser parser.Options
	// DelayedNameRemoval removes __name__ at the end of the evaluation rather than in each function.
	DelayedNameRemoval bool
	// StartTimestamps lets rate() and its kin use the start timestamps of samples.
	StartTimestamps bool
}

// EnableFeature switches on the feature that Prometheus calls name. Names that only concern other parts of Prometheus, and
// unknown ones, are an error, so that a typing mistake is seen.
func (f *Features) EnableFeature(name string) error {
	switch name {
	case "promql-experimental-functions":
		f.Parser.EnableExperimentalFunctions = true
	case "promql-extended-range-selectors":
		f.Parser.EnableExtendedRangeSelectors = true
	case "promql-binop-fill-modifiers":
		f.Parser.EnableBinopFillModifiers = true
	case "promql-delayed-name-removal":
		f.DelayedNameRemoval = true
	case "use-start-timestamps":
		f.StartTimestamps = true
	case "promql-duration-expr", "promql-per-step-stats", "promql-at-modifier", "promql-negative-offset":
		// Always on.
	default:
		return fmt.Errorf("unknown feature %q", name)
	}
	return nil
}

func (o EngineOptions) withDefaults() EngineOptions {
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	o.MaxSamples = orDefault(o.MaxSamples, DefaultMaxSamples)
	o.MaxConcurrency = orDefault(o.MaxConcurrency, DefaultMaxConcurrency)
	o.MaxQueued = orDefault(o.MaxQueued, DefaultMaxQueued)
	o.LookbackDelta = orDefault(o.LookbackDelta, DefaultLookbackDelta)
	o.EvaluationInterval = orDefault(o.EvaluationInterval, DefaultEvaluationInterval)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// Permanently on in Prometheus since 3.x, yet still an option of the parser.
	o.Features.Parser.ExperimentalDurationExpr = true
	return o
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Engine is the upstream engine with the parser it was built with. Close it when no query runs any more.
type Engine struct {
	*upstream.Engine

	// Parser is what the engine parses with; the API's other handlers must agree with it.
	Parser parser.Parser
	// Features lists what is on, for /api/v1/features.
	Features features.Collector

	opts    EngineOptions
	limiter *Limiter
	kernels *kernels // nil with features that they do not cover
}

// NewEngine builds the upstream engine.
func NewEngine(opts EngineOptions) *Engine {
	opts = opts.withDefaults()
	p := parser.NewParser(opts.Features.Parser)
	limiter := NewLimiter("queries", opts.MaxConcurrency, opts.MaxQueued, opts.Registerer)
	registry := features.NewRegistry()
	interval := opts.EvaluationInterval.Milliseconds()
	below := newKernels(p)
	e := &Engine{
		Engine: upstream.NewEngine(upstream.EngineOpts{
			Logger:                   opts.Logger,
			Reg:                      opts.Registerer,
			MaxSamples:               opts.MaxSamples,
			Timeout:                  opts.Timeout,
			LookbackDelta:            opts.LookbackDelta,
			NoStepSubqueryIntervalFn: func(int64) int64 { return interval },
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			// Costs nothing unless a request says stats=all.
			EnablePerStepStats:       true,
			EnableDelayedNameRemoval: opts.Features.DelayedNameRemoval,
			UseStartTimestamps:       opts.Features.StartTimestamps,
			FeatureRegistry:          registry,
			Parser:                   below,
		}),
		Parser:   p,
		Features: registry,
		opts:     opts,
		limiter:  limiter,
	}
	if !opts.Features.DelayedNameRemoval && !opts.Features.StartTimestamps {
		e.kernels = below
	}
	return e
}

// NewInstantQuery implements upstream.QueryEngine.
func (e *Engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, ts time.Time) (upstream.Query, error) {
	query, err := e.Engine.NewInstantQuery(ctx, q, opts, qs, ts)
	if err != nil {
		return nil, err
	}
	return &queuedQuery{query, e}, nil
}

// NewRangeQuery implements upstream.QueryEngine.
func (e *Engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, interval time.Duration) (upstream.Query, error) {
	query, err := e.Engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
	if err != nil {
		return nil, err
	}
	if e.kernels != nil {
		query = e.kernels.around(ctx, e, query, q, opts, qs, start, end, interval)
	}
	return &queuedQuery{query, e}, nil
}

// queuedQuery waits for its turn before it is evaluated. The engine could do that through its active query tracker, but it
// asks it for the parsing as well: a query then waits twice, the first time without a timeout, and fails there as if its
// text were wrong.
type queuedQuery struct {
	upstream.Query
	engine *Engine
}

// Exec implements upstream.Query.
func (q *queuedQuery) Exec(ctx context.Context) *upstream.Result {
	ctx, cancel := context.WithTimeout(ctx, q.engine.opts.Timeout)
	defer cancel()
	timer, _ := q.Stats().Timers.GetSpanTimer(ctx, stats.ExecQueueTime)
	err := q.engine.limiter.Acquire(ctx)
	timer.Finish()
	if err != nil {
		return &upstream.Result{Err: err}
	}
	defer q.engine.limiter.Release()
	res := q.Query.Exec(ctx)
	res.Err = blameStorage(res.Err)
	return res
}
