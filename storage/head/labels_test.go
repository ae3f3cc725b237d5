package head

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// BenchmarkLabels asks for labels of a million series.
func BenchmarkLabels(b *testing.B) {
	t := New().Tenant(1)
	const n = 1_000_000
	for i := range n {
		s := t.Add(Key{}, uint64(i+1), labels.FromStrings(
			"__name__", fmt.Sprintf("metric_%d_total", i%1000), "cluster", fmt.Sprintf("c%d", i%7), "container", fmt.Sprintf("app%d", i%50),
			"instance", fmt.Sprintf("10.0.%d.%d:9100", i/1000/256, i/1000%256), "job", fmt.Sprintf("job%d", i%10),
			"namespace", fmt.Sprintf("ns%d", i%100), "pod", fmt.Sprintf("pod-%d", i/100), "zone", fmt.Sprintf("z%d", i%3)), 0)
		t.head.Append(s, int64(i), 0, 1)
	}
	ctx := context.Background()
	eq := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	re := func(name, value string) *labels.Matcher {
		return labels.MustNewMatcher(labels.MatchRegexp, name, value)
	}
	for _, q := range []struct {
		name string
		keep Keep
		ms   []*labels.Matcher
	}{
		{"all", nil, nil},
		{"job", nil, []*labels.Matcher{eq("job", "job3")}},
		{"metric", nil, []*labels.Matcher{eq("__name__", "metric_7_total")}},
		{"metric_job", nil, []*labels.Matcher{eq("__name__", "metric_3_total"), eq("job", "job3")}},
		{"regex", nil, []*labels.Matcher{re("namespace", "ns[1-5].*"), eq("cluster", "c1")}},
		{"past", func(s *Series) bool { return s.Started() <= 0 }, nil},
	} {
		for _, name := range []string{"__name__", "job", "instance", "pod"} {
			b.Run("values/"+q.name+"/"+name, func(b *testing.B) {
				for b.Loop() {
					values, err := t.LabelValues(ctx, name, q.keep, q.ms...)
					require.NoError(b, err)
					require.NotEmpty(b, values)
				}
			})
		}
		b.Run("names/"+q.name, func(b *testing.B) {
			for b.Loop() {
				names, err := t.LabelNames(ctx, q.keep, q.ms...)
				require.NoError(b, err)
				require.Len(b, names, 8)
			}
		})
	}
	b.Run("overlaps/none", func(b *testing.B) {
		for b.Loop() {
			require.False(b, t.Overlaps(math.MaxInt64-1, math.MaxInt64))
		}
	})
	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			require.NotEmpty(b, t.Stats("__name__", 10).CardinalityMetricsStats)
		}
	})
	b.Run("bounds", func(b *testing.B) {
		for b.Loop() {
			t.Bounds()
		}
	})
}
