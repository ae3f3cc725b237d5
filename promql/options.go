package promql

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// Defaults of Options: those of Prometheus where it has the flag.
const (
	DefaultReadSampleLimit     = 50_000_000
	DefaultReadConcurrentLimit = 10
	DefaultReadMaxBytesInFrame = 1 << 20
	DefaultMaxQueryLength      = 256 << 10
	DefaultMaxRequestBytes     = 16 << 20
	DefaultRetryAfter          = 5 * time.Second
)

// Options is what NewHandler needs. Queryable and Engine must be set; the zero value of any other field means its default.
type Options struct {
	// Queryable answers everything that reads samples or labels. Its errors become promql.ErrStorage (500), unless the query
	// ended first, or they are passing ones, which have a method RetryAfter() time.Duration (503).
	Queryable storage.SampleAndChunkQueryable
	// Engine evaluates.
	Engine *Engine

	// Exemplars answers /api/v1/query_exemplars; without it the answer is empty.
	Exemplars storage.ExemplarQueryable
	// Metadata answers /api/v1/metadata; without it the answer is empty.
	Metadata MetadataStore
	// Cardinality answers /api/v1/status/tsdb; without it that path is 501.
	Cardinality CardinalityStore

	// Admin answers /api/v1/admin/tsdb/… (--web.enable-admin-api); without it these are 503.
	Admin AdminStore

	// RetryAfter goes into the header of every 503.
	RetryAfter time.Duration

	// CORSOrigin is the regular expression that a whole Origin has to match (--web.cors.origin); by default all do.
	CORSOrigin string
	// MaxQueryLength bounds the text of an expression, and of all match[] of a request together, in bytes.
	MaxQueryLength int
	// MaxRequestBytes bounds the body of a request.
	MaxRequestBytes int64

	// Budget, if set, gives the context of a request a bound of what the storage may hold in memory for it. A request past it
	// fails with an error of the storage that has a method Limit() (name string, bytes int64), and is 422.
	Budget func(context.Context) context.Context

	// ReadSampleLimit bounds the samples in one SAMPLES answer of remote read (--storage.remote.read-sample-limit).
	ReadSampleLimit int
	// ReadConcurrentLimit bounds the remote reads at once (--storage.remote.read-concurrent-limit); as many queries as
	// the engine lets wait may wait here.
	ReadConcurrentLimit int
	// ReadMaxBytesInFrame bounds a frame of STREAMED_XOR_CHUNKS (--storage.remote.read-max-bytes-in-frame).
	ReadMaxBytesInFrame int

	// Flags is what /api/v1/status/flags shows: name to value. Secrets are redacted before they are shown.
	Flags map[string]string
	// ConfigYAML is what /api/v1/status/config shows; whoever makes it leaves secrets out.
	ConfigYAML func() string
	// Retention is what /api/v1/status/runtimeinfo shows as storageRetention ("90d").
	Retention string

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Gatherer is what /api/v1/status/self_metrics shows; by default the process-wide one.
	Gatherer prometheus.Gatherer
}

// MetadataStore knows type, help and unit of metric families.
type MetadataStore interface {
	// MetricMetadata returns the distinct metadata per metric family name: of all families, or of one if metric is not
	// empty. At most limit families and perMetric entries of each; a limit below 0 is none.
	MetricMetadata(ctx context.Context, metric string, limit, perMetric int) (map[string][]metadata.Metadata, error)
}

// CardinalityStore counts series.
type CardinalityStore interface {
	// Stats returns how many series there are and the limit largest counts of each kind, largest first: series per value
	// of label (__name__), values per label name, bytes of labels per label name over all series, and series per name=value pair.
	// MinTime and MaxTime are milliseconds.
	Stats(ctx context.Context, label string, limit int) (*tsdb.Stats, error)
}

func (o Options) withDefaults() (Options, error) {
	if o.Queryable == nil || o.Engine == nil {
		return o, errors.New("promql: Options.Queryable and Options.Engine must be set")
	}
	o.RetryAfter = orDefault(o.RetryAfter, DefaultRetryAfter)
	o.CORSOrigin = orDefault(o.CORSOrigin, ".*")
	o.MaxQueryLength = orDefault(o.MaxQueryLength, DefaultMaxQueryLength)
	o.MaxRequestBytes = orDefault(o.MaxRequestBytes, DefaultMaxRequestBytes)
	o.ReadSampleLimit = orDefault(o.ReadSampleLimit, DefaultReadSampleLimit)
	o.ReadConcurrentLimit = orDefault(o.ReadConcurrentLimit, DefaultReadConcurrentLimit)
	o.ReadMaxBytesInFrame = orDefault(o.ReadMaxBytesInFrame, DefaultReadMaxBytesInFrame)
	if o.Budget == nil {
		o.Budget = func(ctx context.Context) context.Context { return ctx }
	}
	if o.ConfigYAML == nil {
		o.ConfigYAML = func() string { return "" }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.DefaultGatherer
	}
	return o, nil
}
