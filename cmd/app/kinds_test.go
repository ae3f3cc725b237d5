package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// TestExemplarsMetadataLabelsAndCardinality: what one sender sends beside its samples, and what the whole program answers about
// it, before and after a restart.
func TestExemplarsMetadataLabelsAndCardinality(t *testing.T) {
	t.Parallel()
	dir, port := dataDir(t), freePort(t)
	args := []string{"--data-dir", dir}
	p := start(t, port, nil, args...).ready(t)
	at := time.Now().Truncate(time.Second)
	series := timeSeries([]prompb.Sample{{Timestamp: at.UnixMilli(), Value: 3}}, "__name__", "latency_seconds_bucket", "job", "api", "le", "1")
	series.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "abc"}}, Value: 0.25, Timestamp: at.UnixMilli()}}
	for range 2 { // A sender that got no answer sends again.
		code, body, err := p.write(context.Background(), series)
		require.NoError(t, err)
		require.Equal(t, 204, code, body)
	}
	code, body, err := p.send(context.Background(), prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{MetricFamilyName: "latency_seconds", Type: prompb.MetricMetadata_HISTOGRAM, Help: "How long.", Unit: "seconds"},
	}})
	require.NoError(t, err)
	require.Equal(t, 204, code, body)

	times := url.Values{"start": {seconds(at.Add(-time.Minute))}, "end": {seconds(at.Add(time.Minute))}}
	with := func(name, value string) url.Values {
		out := url.Values{name: {value}}
		for k, v := range times {
			out[k] = v
		}
		return out
	}
	for _, stage := range []string{"written", "restarted"} {
		if stage == "restarted" {
			p.stop(t)
			p = start(t, port, nil, args...).ready(t)
		}
		require.JSONEq(t, `{"latency_seconds":[{"type":"histogram","help":"How long.","unit":"seconds"}]}`,
			string(get(t, p.url, "/api/v1/metadata", nil)), stage)
		require.JSONEq(t, fmt.Sprintf(`[{"seriesLabels":{"__name__":"latency_seconds_bucket","job":"api","le":"1"},
			"exemplars":[{"labels":{"trace_id":"abc"},"value":"0.25","timestamp":%d}]}]`, at.Unix()),
			string(get(t, p.url, "/api/v1/query_exemplars", with("query", "rate(latency_seconds_bucket[1m])"))), stage)
		require.JSONEq(t, `["__name__","job","le"]`, string(get(t, p.url, "/api/v1/labels", times)), stage)
		require.JSONEq(t, `["__name__","job"]`, string(get(t, p.url, "/api/v1/labels", with("limit", "2"))), stage)
		require.JSONEq(t, `["api"]`, string(get(t, p.url, "/api/v1/label/job/values", with("match[]", `{le="1"}`))), stage)
		require.JSONEq(t, `[]`, string(get(t, p.url, "/api/v1/label/job/values", with("match[]", `{le="2"}`))), stage)
		require.JSONEq(t, `[]`, string(get(t, p.url, "/api/v1/labels", url.Values{"start": {"1"}, "end": {"2"}})), stage)
		var status struct {
			HeadStats struct{ NumSeries int }
		}
		require.NoError(t, json.Unmarshal(get(t, p.url, "/api/v1/status/tsdb", nil), &status))
		require.Equal(t, 1, status.HeadStats.NumSeries, stage)
	}
}
