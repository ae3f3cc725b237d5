package tenancy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promkeep/promkeep/storage"
)

// MetricMetadata returns the metadata of the context's tenants: of a family all that differs, as of one tenant.
func (f *Federated) MetricMetadata(ctx context.Context, metric string, limit, perMetric int) (map[string][]metadata.Metadata, error) {
	all := several(ctx)
	if all == nil {
		return f.store.MetricMetadata(ctx, metric, limit, perMetric)
	}
	out := map[string][]metadata.Metadata{}
	for _, tenant := range all {
		of, err := f.store.MetricMetadata(storage.WithTenant(ctx, tenant), metric, limit, perMetric)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenant, err)
		}
		for family, entries := range of {
			for _, m := range entries {
				if !slices.Contains(out[family], m) && (perMetric < 0 || len(out[family]) < perMetric) {
					out[family] = append(out[family], m)
				}
			}
		}
	}
	if limit >= 0 && len(out) > limit {
		for _, family := range slices.Sorted(maps.Keys(out))[limit:] {
			delete(out, family)
		}
	}
	return out, nil
}

// maxStats is how many entries of each kind a tenant is asked for, so that the largest of all tenants are among them.
const maxStats = 10_000

// Stats adds up the counts of the context's tenants. A label value or pair that two tenants have counts twice.
func (f *Federated) Stats(ctx context.Context, label string, limit int) (*tsdb.Stats, error) {
	all := several(ctx)
	if all == nil {
		return f.store.Stats(ctx, label, limit)
	}
	var sum *tsdb.Stats
	counts := [4]map[string]uint64{{}, {}, {}, {}}
	for _, tenant := range all {
		s, err := f.store.Stats(storage.WithTenant(ctx, tenant), label, max(limit, maxStats))
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenant, err)
		}
		if sum == nil {
			sum = &tsdb.Stats{MinTime: s.MinTime, MaxTime: s.MaxTime, IndexPostingStats: &index.PostingsStats{}}
		}
		if s.NumSeries > 0 {
			if sum.NumSeries == 0 {
				sum.MinTime, sum.MaxTime = s.MinTime, s.MaxTime
			}
			sum.MinTime, sum.MaxTime = min(sum.MinTime, s.MinTime), max(sum.MaxTime, s.MaxTime)
		}
		sum.NumSeries += s.NumSeries
		if p := s.IndexPostingStats; p != nil {
			sum.IndexPostingStats.NumLabelPairs += p.NumLabelPairs
			for i, list := range [...][]index.Stat{p.CardinalityMetricsStats, p.CardinalityLabelStats, p.LabelValueStats, p.LabelValuePairsStats} {
				for _, x := range list {
					counts[i][x.Name] += x.Count
				}
			}
		}
	}
	p := sum.IndexPostingStats
	for i, to := range [...]*[]index.Stat{&p.CardinalityMetricsStats, &p.CardinalityLabelStats, &p.LabelValueStats, &p.LabelValuePairsStats} {
		*to = largest(counts[i], limit)
	}
	return sum, nil
}

func largest(counts map[string]uint64, limit int) []index.Stat {
	out := make([]index.Stat, 0, len(counts))
	for name, n := range counts {
		out = append(out, index.Stat{Name: name, Count: n})
	}
	slices.SortFunc(out, func(a, b index.Stat) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	return out[:min(limit, len(out))]
}
