package head

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

func lset(i int) labels.Labels {
	return labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
}

func key(i int) Key { return Key{uint64(i) + 1, 7} }

func pack(s *Series, samples []Sample) Row {
	var ts []int64
	var vs []float64
	for _, x := range samples {
		ts, vs = append(ts, x.T), append(vs, x.V)
	}
	return Row{Start: ts[0], End: ts[len(ts)-1], N: int32(len(ts)), Encoding: codec.EncodingFloat, Data: codec.Append(nil, ts, vs, nil)}
}

func TestFlushTakesWhatCameBeforeTheLine(t *testing.T) {
	h := New()
	s := h.Tenant(1).Add(key(1), 1, lset(1), 0)
	h.Append(s, 10, 0, 1)
	h.Append(s, 5, 0, 2)
	h.Append(s, 10, 0, 3)
	h.Advance()
	h.Append(s, 20, 0, 4)
	flush := func(version int32, committed bool) (out []Sample) {
		require.NoError(t, h.Flushing(func(s *Series, samples []Sample, _ map[int64]int64, _ []series.Histogram) ([]Row, error) {
			out = append(out, samples...)
			r := pack(s, samples)
			r.Version = version
			return []Row{r}, nil
		}))
		h.Flushed(version, committed)
		return out
	}
	require.Equal(t, []Sample{{5, 2}, {10, 3}}, flush(1, false))
	v := s.View(0, 100)
	require.Empty(t, v.Rows, "the rows of a failed flush are gone")
	require.Equal(t, []Sample{{5, 2}, {10, 3}, {20, 4}}, v.Samples)

	h.Append(s, 5, 0, 9)
	h.Advance()
	require.Equal(t, []Sample{{5, 9}, {10, 3}, {20, 4}}, flush(2, true), "the next flush takes it all")
	require.Zero(t, h.UnflushedBytes(), "what was replaced does not count for ever")
	v = s.View(0, 100)
	require.Len(t, v.Rows, 1)
	require.Empty(t, v.Samples)
	h.Append(s, 30, 0, 5)
	require.Equal(t, []Sample{{30, 5}}, s.View(0, 100).Samples)
}

func TestSpellingsOfASeriesAreBounded(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	s := tenant.Add(key(0), 1, lset(1), 0)
	for i := range 100 {
		require.Same(t, s, tenant.Find(key(i), lset(1)))
	}
	require.LessOrEqual(t, tenant.keys.len(), maxAliases+1)
	tenant.RLock()
	require.Same(t, s, tenant.Known(key(0), nil).Series(), "the first spelling stays")
	require.Same(t, s, tenant.Known(key(99), nil).Series())
	tenant.RUnlock()
}

func TestIdleSeriesAreCollected(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	for i := range 10 {
		h.Append(tenant.Add(key(i), uint64(i), lset(i), 0), 1000, 0, 1)
	}
	require.Empty(t, h.Collect(), "they have samples")
	h.Advance()
	require.NoError(t, h.Flushing(func(s *Series, samples []Sample, _ map[int64]int64, _ []series.Histogram) ([]Row, error) {
		return []Row{pack(s, samples)}, nil
	}))
	h.Flushed(0, true)
	h.SetCoverFrom(0)
	h.Evict(math.MaxInt64 - 1)
	h.Advance()
	tenant.RLock()
	require.NotNil(t, tenant.Known(key(3), nil), "a writer is about to write")
	tenant.RUnlock()
	ended := h.Collect()
	require.Len(t, ended, 9)
	for _, e := range ended {
		require.EqualValues(t, 1000, e.Last)
		require.NotEqualValues(t, 3, e.ID)
	}
	require.Equal(t, 1, h.Len())
	left, err := tenant.Select(context.Background(), labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Zero(t, h.CachedBytes())
	tenant.RLock()
	defer tenant.RUnlock()
	require.Nil(t, tenant.Known(key(4), nil))
}
