package promql

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// headStats counts in a real TSDB.
type headStats struct{ *teststorage.TestStorage }

func (s headStats) Stats(_ context.Context, label string, limit int) (*tsdb.Stats, error) {
	return s.Head().Stats(label, limit), nil
}

// metadataFunc shows the handler what a store would say, and records what it was asked.
type metadataFunc func(metric string, limit, perMetric int) (map[string][]metadata.Metadata, error)

func (f metadataFunc) MetricMetadata(_ context.Context, metric string, limit, perMetric int) (map[string][]metadata.Metadata, error) {
	return f(metric, limit, perMetric)
}

func TestStatusTSDB(t *testing.T) {
	db := teststorage.New(t)
	a := db.AppenderV2(context.Background())
	for _, l := range []labels.Labels{
		labels.FromStrings("__name__", "x", "i", "1"),
		labels.FromStrings("__name__", "x", "i", "2"),
		labels.FromStrings("__name__", "x", "i", "3"),
		labels.FromStrings("__name__", "y", "i", "1"),
	} {
		_, err := a.Append(0, l, 0, 1000, 1, nil, nil, storage.AppendV2Options{})
		require.NoError(t, err)
	}
	require.NoError(t, a.Commit())
	s := serve(t, func(o *Options) { o.Cardinality = headStats{db} })
	got := s.get(t, "/api/v1/status/tsdb?limit=1")
	require.Equal(t, 200, got.code)
	require.JSONEq(t, `{"headStats":{"numSeries":4,"numLabelPairs":5,"chunkCount":0,"minTime":1000,"maxTime":1000},
		"seriesCountByMetricName":[{"name":"x","value":3}],
		"labelValueCountByLabelName":[{"name":"i","value":3}],
		"memoryInBytesByLabelName":[{"name":"__name__","value":44}],
		"seriesCountByLabelValuePair":[{"name":"__name__=x","value":3}]}`, string(got.Data))
	for _, limit := range []string{"0", "-1", "x", "10001"} {
		require.Equal(t, 400, s.get(t, "/api/v1/status/tsdb?limit="+limit).code, limit)
	}
}

func TestMetadata(t *testing.T) {
	type asked struct {
		metric           string
		limit, perMetric int
	}
	var last asked
	var fault error
	s := serve(t, func(o *Options) {
		o.Metadata = metadataFunc(func(metric string, limit, perMetric int) (map[string][]metadata.Metadata, error) {
			last = asked{metric, limit, perMetric}
			return map[string][]metadata.Metadata{"up": {{Type: "gauge", Help: "Is it?", Unit: ""}}}, fault
		})
	})
	for query, want := range map[string]asked{
		"":                               {"", -1, -1},
		"?metric=up&limit=3":             {"up", 3, -1},
		"?limit_per_metric=2&limit=10":   {"", 10, 2},
		"?limit_per_metric=0&metric=abc": {"abc", -1, -1},
	} {
		got := s.get(t, "/api/v1/metadata"+query)
		require.Equal(t, 200, got.code)
		require.JSONEq(t, `{"up":[{"type":"gauge","help":"Is it?","unit":""}]}`, string(got.Data))
		require.Equal(t, want, last, query)
	}
	require.JSONEq(t, `{}`, string(s.get(t, "/api/v1/metadata?limit=0").Data))
	fault = passing{errors.New("away")}
	require.Equal(t, 503, s.get(t, "/api/v1/metadata").code)
	fault = errors.New("broken")
	require.Equal(t, 500, s.get(t, "/api/v1/metadata").code)
}

func TestTimesAreClamped(t *testing.T) {
	require.Equal(t, time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli(), clampTime(1<<62))
	require.Equal(t, int64(-62135596800000), clampTime(-1<<63))
	require.Equal(t, int64(-5), clampTime(-5))
}
