package app

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/promql"
	"github.com/promkeep/promkeep/storage"
)

// queryFlags are the flags of everything that reads.
type queryFlags struct {
	timeout, lookback         model.Duration
	concurrency, maxSamples   int
	readSamples, readParallel int
	readFrame                 units.Base2Bytes
	maxMemory, totalMemory    units.Base2Bytes
	cors                      string
	features                  []string
	admin                     bool
}

func (q *queryFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("query.timeout", "How long a query may take.").Default("2m").SetValue(&q.timeout)
	cmd.Flag("query.lookback-delta", "How far back an instant selector looks for a sample.").Default("5m").SetValue(&q.lookback)
	cmd.Flag("query.max-concurrency", "Queries that are evaluated at once.").Default("20").IntVar(&q.concurrency)
	cmd.Flag("query.max-samples", "Samples that one query may hold in memory.").Default("50000000").IntVar(&q.maxSamples)
	cmd.Flag("query.max-memory", "Bytes of packed rows, decoded samples and labels of series that one query or remote read may hold; past it, it gets 422. 0 is no bound.").Default("1GiB").BytesVar(&q.maxMemory)
	cmd.Flag("query.max-memory-total", "Bytes of the same that all queries and remote reads together may hold; past it, those that would hold more get 503. 0 is no bound.").Default("4GiB").BytesVar(&q.totalMemory)
	cmd.Flag("storage.remote.read-sample-limit", "Samples that one remote read of type SAMPLES may return.").Default("50000000").IntVar(&q.readSamples)
	cmd.Flag("storage.remote.read-concurrent-limit", "Remote reads at once.").Default("10").IntVar(&q.readParallel)
	cmd.Flag("storage.remote.read-max-bytes-in-frame", "Bytes of one frame of a streamed remote read.").Default("1MiB").BytesVar(&q.readFrame)
	cmd.Flag("web.cors.origin", "Regular expression, anchored, for the origins that browsers may ask from.").Default(".*").StringVar(&q.cors)
	cmd.Flag("web.enable-admin-api", "Let POST /api/v1/admin/tsdb/delete_series delete samples, for whoever may query.").BoolVar(&q.admin)
	cmd.Flag("enable-feature", "Experimental features of PromQL, by Prometheus' names, separated by commas.").StringsVar(&q.features)
}

// handler answers the Prometheus API over db.
func (q *queryFlags) handler(db *storage.DB, flags map[string]string, retention string, logger *slog.Logger, registry *prometheus.Registry) (http.Handler, error) {
	logger = logger.With("component", "promql")
	engine := promql.EngineOptions{
		Timeout:        time.Duration(q.timeout),
		MaxSamples:     q.maxSamples,
		MaxConcurrency: q.concurrency,
		LookbackDelta:  time.Duration(q.lookback),
		Logger:         logger,
		Registerer:     registry,
	}
	for _, list := range q.features {
		for _, name := range strings.Split(list, ",") {
			if err := engine.Features.EnableFeature(strings.TrimSpace(name)); err != nil {
				return nil, err
			}
		}
	}
	store := tenancy.Federate(db)
	var admin promql.AdminStore
	if q.admin {
		admin = db // a request is of one tenant, see routes
	}
	return promql.NewHandler(promql.Options{
		Admin: admin,
		Budget: func(ctx context.Context) context.Context {
			return storage.WithBudget(ctx, db.NewBudget("--query.max-memory", int64(q.maxMemory)).Within("--query.max-memory-total", int64(q.totalMemory)))
		},
		Queryable:           store,
		Cardinality:         store,
		Metadata:            store,
		Exemplars:           store,
		Engine:              promql.NewEngine(engine),
		CORSOrigin:          q.cors,
		ReadSampleLimit:     q.readSamples,
		ReadConcurrentLimit: q.readParallel,
		ReadMaxBytesInFrame: int(q.readFrame),
		Flags:               flags,
		Retention:           retention,
		Logger:              logger,
		Registerer:          registry,
		Gatherer:            registry,
	})
}
