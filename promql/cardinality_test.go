package promql

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestCardinalityOfTheStorage: the counts are those of the series that were written, of one tenant.
func TestCardinalityOfTheStorage(t *testing.T) {
	db := openStore(t, pgtest.New(t))
	s := serveOver(t, db, func(o *Options) { o.Cardinality = db.DB })
	require.JSONEq(t, `{"headStats":{"numSeries":0,"numLabelPairs":0,"chunkCount":0,"minTime":9223372036854775807,"maxTime":-9223372036854775808},
		"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}`,
		string(s.get(t, "/api/v1/status/tsdb").Data))

	for _, tenant := range []string{"", "other"} {
		a := (&tenantStorage{store: db, name: tenant}).AppenderV2(context.Background())
		for i, l := range []labels.Labels{
			labels.FromStrings("__name__", "x", "i", "1"),
			labels.FromStrings("__name__", "x", "i", "2"),
			labels.FromStrings("__name__", "x", "i", "3"),
			labels.FromStrings("__name__", "y", "i", "1"),
		} {
			_, err := a.Append(0, l, 0, int64(1000+i), 1, nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
		require.NoError(t, a.Commit())
	}
	got := s.get(t, "/api/v1/status/tsdb?limit=1")
	require.Equal(t, 200, got.code, got.body)
	require.JSONEq(t, `{"headStats":{"numSeries":4,"numLabelPairs":5,"chunkCount":0,"minTime":1000,"maxTime":1003},
		"seriesCountByMetricName":[{"name":"x","value":3}],
		"labelValueCountByLabelName":[{"name":"i","value":3}],
		"memoryInBytesByLabelName":[{"name":"__name__","value":36}],
		"seriesCountByLabelValuePair":[{"name":"__name__=x","value":3}]}`, string(got.Data))

	// Without a limit it is the top ten, the largest first.
	a := (&tenantStorage{store: db}).AppenderV2(context.Background())
	for metric := range 14 {
		for i := range 10 + metric {
			l := labels.FromStrings("__name__", fmt.Sprintf("m%02d", metric), "i", fmt.Sprint(i))
			_, err := a.Append(0, l, 0, 2000, 1, nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, a.Commit())
	var top struct {
		SeriesCountByMetricName []struct {
			Name  string
			Value int
		}
	}
	require.NoError(t, unmarshal(s.get(t, "/api/v1/status/tsdb").Data, &top))
	require.Len(t, top.SeriesCountByMetricName, 10)
	for i, x := range top.SeriesCountByMetricName {
		require.Equal(t, fmt.Sprintf("m%02d", 13-i), x.Name)
		require.Equal(t, 23-i, x.Value)
	}
}
