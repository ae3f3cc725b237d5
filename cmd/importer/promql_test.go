package importer

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// asTenant reads another tenant than the default one.
type asTenant struct {
	db     *storage.DB
	tenant string
}

func (a asTenant) Querier(mint, maxt int64) (promstorage.Querier, error) {
	q, err := a.db.Querier(mint, maxt)
	return tenantQuerier{q, a.tenant}, err
}

type tenantQuerier struct {
	promstorage.Querier
	tenant string
}

func (q tenantQuerier) Select(ctx context.Context, sorted bool, hints *promstorage.SelectHints, ms ...*labels.Matcher) promstorage.SeriesSet {
	return q.Querier.Select(storage.WithTenant(ctx, q.tenant), sorted, hints, ms...)
}

var expressions = []string{
	`count({__name__=~".+"})`, `count by (__name__) ({__name__=~".+"})`, `requests_total`, `sum(rate(requests_total[5m]))`,
	`sum by (i) (increase(requests_total{i!="3"}[1h]))`, `temperature > 0`, `avg_over_time(temperature[10m])`, `quantile_over_time(0.9, temperature[30m])`,
	`stddev_over_time(temperature[1h])`, `deriv(temperature[20m])`, `changes(odd[30m])`, `odd`, `count_over_time(odd[1h])`, `resets(requests_total[3h])`,
	`pod_up`, `count(pod_up)`, `last_over_time(pod_up[2h])`, `absent(pod_up)`, `timestamp(pod_up)`,
	`histogram_quantile(0.9, rate(latency[10m]))`, `histogram_count(rate(latency[5m]))`, `histogram_sum(latency)`, `latency`, `increase(latency[1h])`,
	`histogram_avg(sizes)`, `sizes`, `histogram_quantile(0.5, custom)`, `rate(custom[15m])`, `resets(latency[3h])`, `changes(latency[1h])`,
	`topk(2, temperature)`, `requests_total offset 1h`, `max_over_time(rate(requests_total[5m])[1h:1m])`, `predict_linear(temperature[1h], 3600)`,
}

// samePromQL asks both at instants and over ranges, with the engine of Prometheus.
func samePromQL(t testing.TB, want, got promstorage.Queryable) {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{EnableExperimentalFunctions: true})})
	ctx := context.Background()
	begin := today.Add(-2 * 24 * time.Hour)
	for _, expr := range expressions {
		ask := func(q promstorage.Queryable) (out []string) {
			for _, at := range []time.Time{begin.Add(7 * time.Hour), today.Add(-time.Minute), today.Add(3*time.Hour + 30*time.Minute), now} {
				query, err := engine.NewInstantQuery(ctx, q, nil, expr, at)
				require.NoError(t, err)
				r := query.Exec(ctx)
				require.NoError(t, r.Err, expr)
				if m, ok := r.Value.(promql.Vector); ok {
					lines := []string{}
					for _, s := range m {
						lines = append(lines, s.String())
					}
					r.Value = nil
					out = append(out, sorted(lines))
				}
				query.Close()
			}
			query, err := engine.NewRangeQuery(ctx, q, nil, expr, begin, now, 17*time.Minute)
			require.NoError(t, err)
			r := query.Exec(ctx)
			require.NoError(t, r.Err, expr)
			out = append(out, r.Value.String())
			query.Close()
			return out
		}
		require.Equal(t, ask(want), ask(got), expr)
	}
}

func migrated(t testing.TB, pg *pgtest.DB) (is bool) {
	t.Helper()
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT to_regclass('_promkeep.part') IS NOT NULL").Scan(&is))
	return is
}

func unmerged(t testing.TB, pg *pgtest.DB) (n int) {
	t.Helper()
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT count(*) FROM _promkeep.part WHERE sealed").Scan(&n))
	return n
}

func sorted(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
