package promql

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"
	"github.com/prometheus/prometheus/config"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// upstreamRoutes are the paths below /api/v1 that upstream's API answers. Its /metadata, /read and most of /status look into
// a local TSDB or scrape manager and have handlers of our own; what writes or is experimental is left out, and what
// deletes is in admin.go.
var upstreamRoutes = []struct{ path, methods string }{
	{"/query", "GET POST"},
	{"/query_range", "GET POST"},
	{"/query_exemplars", "GET POST"},
	{"/format_query", "GET POST"},
	{"/parse_query", "GET POST"},
	{"/series", "GET POST"},
	{"/labels", "GET POST"},
	{"/label/{name}/values", "GET"},
	{"/targets", "GET"},
	{"/targets/metadata", "GET"},
	{"/scrape_pools", "GET"},
	{"/rules", "GET"},
	{"/alerts", "GET"},
	{"/alertmanagers", "GET"},
	{"/features", "GET"},
	{"/status/buildinfo", "GET"},
	{"/status/runtimeinfo", "GET"},
	{"/status/flags", "GET"},
	{"/status/self_metrics", "GET"},
}

// newUpstreamAPI is the only place that knows the parameters of v1.NewAPI.
func newUpstreamAPI(o Options, q storage.SampleAndChunkQueryable, eq storage.ExemplarQueryable, cors *regexp.Regexp) http.Handler {
	started := time.Now()
	api := v1.NewAPI(
		o.Engine,
		q,
		nil, nil, // Nothing is written here.
		eq,
		func(context.Context) v1.ScrapePoolsRetriever { return nothingScraped{} },
		func(context.Context) v1.TargetRetriever { return nothingScraped{} },
		func(context.Context) v1.AlertmanagerRetriever { return noAlertmanagers{} },
		func() config.Config { return config.Config{} },
		redactFlags(o.Flags),
		v1.GlobalURLOptions{},
		func(f http.HandlerFunc) http.HandlerFunc { return f }, // Readiness is asked for in front of all this.
		nil, "", // No local TSDB.
		false, // No admin API.
		false, 0,
		o.Logger,
		func(context.Context) v1.RulesRetriever { return noRules{} },
		o.ReadSampleLimit, o.ReadConcurrentLimit, o.ReadMaxBytesInFrame,
		false, // Not an agent.
		cors,
		func() (v1.RuntimeInfo, error) { return runtimeInfo(started, o.Retention) },
		&v1.PrometheusVersion{
			Version:   version.Version,
			Revision:  version.GetRevision(),
			Branch:    version.Branch,
			BuildUser: version.BuildUser,
			BuildDate: version.BuildDate,
			GoVersion: version.GoVersion,
		},
		nil, nil, // No notifications.
		o.Gatherer,
		nil,        // Its metrics are those of its remote read, which is not the one that is served.
		nil,        // The default statistics.
		false, nil, // No remote write receiver.
		false, false, false, // No OTLP receiver.
		false,
		o.Engine.opts.LookbackDelta,
		false, false,
		overrideErrorCode,
		o.Engine.Features,
		v1.OpenAPIOptions{},
		o.Engine.Parser,
	)
	r := route.New()
	api.Register(r.WithPrefix(apiPrefix))
	return r
}

// overrideErrorCode corrects what upstream's own storage never needs: errorType unavailable has no status of its own there,
// and the label endpoints take every error of the storage for one of the query. Generic, for upstream does not export the
// type of its numbers.
func overrideErrorCode[num any](_ num, err error) (int, bool) {
	var (
		storageErr upstream.ErrStorage
		timeout    upstream.ErrQueryTimeout
		canceled   upstream.ErrQueryCanceled
	)
	if errors.As(err, &storageErr) || errors.As(err, &timeout) || errors.As(err, &canceled) {
		status, _ := statusOf(err)
		return status, true
	}
	return 0, false
}

func runtimeInfo(started time.Time, retention string) (v1.RuntimeInfo, error) {
	host, err := os.Hostname()
	if err != nil {
		return v1.RuntimeInfo{}, fmt.Errorf("host name: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return v1.RuntimeInfo{}, fmt.Errorf("working directory: %w", err)
	}
	return v1.RuntimeInfo{
		StartTime:           started,
		CWD:                 dir,
		Hostname:            host,
		ServerTime:          time.Now().UTC(),
		ReloadConfigSuccess: true,
		LastConfigTime:      started,
		GoroutineCount:      runtime.NumGoroutine(),
		GOMAXPROCS:          runtime.GOMAXPROCS(0),
		GOMEMLIMIT:          debug.SetMemoryLimit(-1),
		GOGC:                os.Getenv("GOGC"),
		GODEBUG:             os.Getenv("GODEBUG"),
		StorageRetention:    retention,
	}, nil
}

// promkeep scrapes nothing, evaluates no rules and notifies nobody; these say so in the shapes that the API asks for.
type nothingScraped struct{}

func (nothingScraped) ScrapePools() []string                       { return []string{} }
func (nothingScraped) TargetsActive() map[string][]*scrape.Target  { return nil }
func (nothingScraped) TargetsDropped() map[string][]*scrape.Target { return nil }
func (nothingScraped) TargetsDroppedCounts() map[string]int        { return map[string]int{} }
func (nothingScraped) ScrapePoolConfig(pool string) (*config.ScrapeConfig, error) {
	return nil, fmt.Errorf("unknown scrape pool %q", pool)
}

type noAlertmanagers struct{}

func (noAlertmanagers) Alertmanagers() []*url.URL        { return nil }
func (noAlertmanagers) DroppedAlertmanagers() []*url.URL { return nil }

type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }
