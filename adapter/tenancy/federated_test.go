package tenancy_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m}, pgtest.IgnoreServers()...)
}

var base = time.Now().Add(-3 * time.Hour).Truncate(time.Second).UnixMilli()

const samples = 20 // of a series, a minute apart

// write stores series with samples and an exemplar each, and the metadata of a family.
func write(t *testing.T, db *storage.DB, tenant string, series []labels.Labels, help string) {
	t.Helper()
	b, err := db.NewBatch(context.Background(), tenant)
	require.NoError(t, err)
	defer b.Release()
	for i, ls := range series {
		b.New(storage.Key{1, uint64(ls.Hash())}, ls)
		for k := range samples {
			b.Float(base+int64(k)*60_000, 0, float64(i*100+k))
		}
		b.Exemplar(exemplar.Exemplar{Labels: labels.FromStrings("trace_id", ls.String()), Value: 1, Ts: base, HasTs: true})
	}
	if help != "" {
		b.Metadata("m", metadata.Metadata{Type: "counter", Help: help})
	}
	require.NoError(t, b.Commit(context.Background()))
}

// TestFederated compares a query of three tenants with one of a single tenant whose series have the tenant as a label: all
// answers are the same, in order too, from memory and from the database.
func TestFederated(t *testing.T) {
	db, err := storage.Open(t.Context(), storage.Config{URI: pgtest.New(t).URI, NoMaintenance: true, CacheWindow: time.Hour,
		Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer db.Close()

	own := map[string][]labels.Labels{
		"a": {
			labels.FromStrings("__name__", "m", "job", "x"),
			labels.FromStrings("__name__", "m", "job", "y"),
			labels.FromStrings("__name__", "m", "JOB", "upper"), // sorts before the label of the tenant
			labels.FromStrings("__name__", "m"),
			labels.FromStrings("__name__", "only_a", "job", "x", "extra", "1"),
		},
		"b": {
			labels.FromStrings("__name__", "m", "job", "x"),
			labels.FromStrings("__name__", "m", "job", "z"),
			labels.FromStrings("__name__", "m", "job", "z", tenancy.TenantLabel, "mine"), // of its own
		},
		"c": {labels.FromStrings("__name__", "m_c", "job", "x")},
	}
	var together []labels.Labels
	for _, tenant := range []string{"a", "b", "c"} {
		write(t, db, tenant, own[tenant], map[string]string{"a": "first", "b": "second", "c": "first"}[tenant])
		for _, ls := range own[tenant] {
			b := labels.NewBuilder(ls)
			if v := ls.Get(tenancy.TenantLabel); v != "" {
				b.Set(tenancy.OriginalLabel, v)
			}
			together = append(together, b.Set(tenancy.TenantLabel, tenant).Labels())
		}
	}
	// The values that a series has depend on its place within its tenant.
	for _, part := range [][]labels.Labels{together[:5], together[5:8], together[8:]} {
		write(t, db, "together", part, "")
	}
	write(t, db, "other", own["a"], "of another") // which nothing below may find

	federated := tenancy.Federate(db)
	several := tenancy.WithTenants(context.Background(), []string{"a", "b", "c"})
	single := tenancy.WithTenants(context.Background(), []string{"together"})
	matcher := func(kind labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(kind, name, value)
	}
	selectors := [][]*labels.Matcher{
		{matcher(labels.MatchRegexp, "__name__", ".+")},
		{matcher(labels.MatchEqual, "__name__", "m")},
		{matcher(labels.MatchEqual, "__name__", "m"), matcher(labels.MatchEqual, tenancy.TenantLabel, "b")},
		{matcher(labels.MatchEqual, tenancy.TenantLabel, "b")},
		{matcher(labels.MatchEqual, tenancy.TenantLabel, "nobody")},
		{matcher(labels.MatchEqual, tenancy.TenantLabel, "other")},
		{matcher(labels.MatchNotEqual, tenancy.TenantLabel, "a"), matcher(labels.MatchEqual, "job", "x")},
		{matcher(labels.MatchRegexp, tenancy.TenantLabel, "a|c"), matcher(labels.MatchRegexp, "job", ".+")},
		{matcher(labels.MatchEqual, tenancy.OriginalLabel, "mine")},
		{matcher(labels.MatchEqual, tenancy.OriginalLabel, ""), matcher(labels.MatchEqual, "job", "z")},
		{matcher(labels.MatchEqual, "job", "")},
		{matcher(labels.MatchEqual, "nothing", "x")},
	}

	for _, stage := range []string{"in memory", "flushed", "no longer in memory"} {
		switch stage {
		case "flushed":
			require.NoError(t, db.Flush(t.Context()))
		case "no longer in memory":
			for range 4 {
				require.NoError(t, db.Flush(t.Context()))
			}
			require.NoError(t, db.Maintain(t.Context()))
		}
		for _, ms := range selectors {
			name := fmt.Sprint(stage, " ", ms)
			for _, hints := range []*promstorage.SelectHints{nil, {Start: base, End: base + 600_000}, {Start: base, End: base + 600_000, Limit: 3}, {Start: base, End: base + 600_000, Func: "series"}} {
				want := dump(t, db, single, hints, ms)
				require.Equal(t, want, dump(t, federated, several, hints, ms), "%s %+v", name, hints)
				require.Equal(t, want, dump(t, federated, single, hints, ms), "one tenant: %s", name)
				require.Equal(t, dumpChunks(t, db, single, hints, ms), dumpChunks(t, federated, several, hints, ms), "chunks: %s", name)
			}
			require.Equal(t, exemplars(t, db, single, ms), exemplars(t, federated, several, ms), name)
			for _, limit := range []int{0, 2} {
				require.Equal(t, names(t, db, single, limit, ms), names(t, federated, several, limit, ms), "names, limit %d: %s", limit, name)
				for _, label := range []string{"__name__", "job", "JOB", tenancy.TenantLabel, tenancy.OriginalLabel, "nothing"} {
					require.Equal(t, values(t, db, single, label, limit, ms), values(t, federated, several, label, limit, ms), "values of %s, limit %d: %s", label, limit, name)
				}
			}
		}
	}
	require.NotEmpty(t, dump(t, federated, several, nil, selectors[0]))
	require.Len(t, strings.Split(strings.TrimSpace(dump(t, federated, several, nil, selectors[0])), "\n"), 9)

	require.Eventually(t, func() bool { // metadata is written behind samples
		got, err := federated.MetricMetadata(several, "", -1, -1)
		require.NoError(t, err)
		help := make([]string, 0, 2)
		for _, m := range got["m"] {
			help = append(help, m.Help)
		}
		slices.Sort(help)
		return len(got) == 1 && slices.Equal(help, []string{"first", "second"})
	}, time.Minute, 10*time.Millisecond)
	for limit, want := range map[int]int{-1: 2, 1: 1} {
		got, err := federated.MetricMetadata(several, "m", -1, limit)
		require.NoError(t, err)
		require.Len(t, got["m"], want)
	}
	got, err := federated.MetricMetadata(several, "", 0, -1)
	require.NoError(t, err)
	require.Empty(t, got)
}

// TestFederatedStats: counts of several tenants are added up.
func TestFederatedStats(t *testing.T) {
	db, err := storage.Open(t.Context(), storage.Config{URI: pgtest.New(t).URI, NoMaintenance: true})
	require.NoError(t, err)
	defer db.Close()
	write(t, db, "a", []labels.Labels{labels.FromStrings("__name__", "m", "job", "x"), labels.FromStrings("__name__", "m", "job", "y")}, "")
	write(t, db, "b", []labels.Labels{labels.FromStrings("__name__", "m", "job", "x"), labels.FromStrings("__name__", "n")}, "")
	f := tenancy.Federate(db)
	s, err := f.Stats(tenancy.WithTenants(t.Context(), []string{"a", "b", "unknown"}), "__name__", 10)
	require.NoError(t, err)
	require.EqualValues(t, 4, s.NumSeries)
	require.Equal(t, base, s.MinTime)
	require.Equal(t, base+(samples-1)*60_000, s.MaxTime)
	require.Equal(t, "[{m 3} {n 1}]", fmt.Sprint(s.IndexPostingStats.CardinalityMetricsStats))
	require.Equal(t, "{__name__=m 3}", fmt.Sprint(s.IndexPostingStats.LabelValuePairsStats[0]))
	s, err = f.Stats(tenancy.WithTenants(t.Context(), []string{"a", "b"}), "__name__", 1)
	require.NoError(t, err)
	require.Equal(t, "[{m 3}]", fmt.Sprint(s.IndexPostingStats.CardinalityMetricsStats))
	s, err = f.Stats(tenancy.WithTenants(t.Context(), []string{"b"}), "__name__", 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, s.NumSeries)
}

// dump writes the series and their samples, in order.
func dump(t *testing.T, q promstorage.Queryable, ctx context.Context, hints *promstorage.SelectHints, ms []*labels.Matcher) string {
	t.Helper()
	querier, err := q.Querier(base-1, base+3600_000)
	require.NoError(t, err)
	defer querier.Close()
	set := querier.Select(ctx, true, hints, ms...)
	var b strings.Builder
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		fmt.Fprint(&b, s.Labels())
		it = s.Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			at, v := it.At()
			fmt.Fprintf(&b, " %d:%x", at-base, math.Float64bits(v))
		}
		require.NoError(t, it.Err())
		b.WriteByte('\n')
	}
	require.NoError(t, set.Err())
	return b.String()
}

func dumpChunks(t *testing.T, q promstorage.ChunkQueryable, ctx context.Context, hints *promstorage.SelectHints, ms []*labels.Matcher) string {
	t.Helper()
	querier, err := q.ChunkQuerier(base-1, base+3600_000)
	require.NoError(t, err)
	defer querier.Close()
	set := querier.Select(ctx, true, hints, ms...)
	var b strings.Builder
	for set.Next() {
		s := set.At()
		fmt.Fprint(&b, s.Labels())
		it := s.Iterator(nil)
		for it.Next() {
			fmt.Fprintf(&b, " %d-%d:%x", it.At().MinTime, it.At().MaxTime, it.At().Chunk.Bytes())
		}
		require.NoError(t, it.Err())
		b.WriteByte('\n')
	}
	require.NoError(t, set.Err())
	return b.String()
}

// exemplars leaves out the exemplars' own labels, which are those of the series as written.
func exemplars(t *testing.T, q promstorage.ExemplarQueryable, ctx context.Context, ms []*labels.Matcher) string {
	t.Helper()
	querier, err := q.ExemplarQuerier(ctx)
	require.NoError(t, err)
	results, err := querier.Select(base, base+1, ms)
	require.NoError(t, err)
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s %d %d %g\n", r.SeriesLabels, len(r.Exemplars), r.Exemplars[0].Ts, r.Exemplars[0].Value)
	}
	return b.String()
}

func names(t *testing.T, q promstorage.Queryable, ctx context.Context, limit int, ms []*labels.Matcher) []string {
	t.Helper()
	querier, err := q.Querier(base-1, base+3600_000)
	require.NoError(t, err)
	defer querier.Close()
	out, _, err := querier.LabelNames(ctx, &promstorage.LabelHints{Limit: limit}, ms...)
	require.NoError(t, err)
	return slices.Clip(append([]string{}, out...))
}

func values(t *testing.T, q promstorage.Queryable, ctx context.Context, name string, limit int, ms []*labels.Matcher) []string {
	t.Helper()
	querier, err := q.Querier(base-1, base+3600_000)
	require.NoError(t, err)
	defer querier.Close()
	out, _, err := querier.LabelValues(ctx, name, &promstorage.LabelHints{Limit: limit}, ms...)
	require.NoError(t, err)
	return slices.Clip(append([]string{}, out...))
}
