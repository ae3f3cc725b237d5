package bench

import (
	"math"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

func testLoad(series, steps int) Load {
	return Load{Series: series, Steps: steps, Interval: 15 * time.Second, Start: 1_760_000_400_000, Seed: 7}
}

// Requests are patched after compression, so upstream's own decoders must find in them what was put there, each time.
func TestRequestsDecodeToWhatWasPutIntoThem(t *testing.T) {
	load := testLoad(2_500, 1)
	series := make([]labels.Labels, load.Series)
	for i := range series {
		series[i] = load.Labels(i, 0)
	}
	for _, protocol := range []Protocol{V1, V2} {
		t.Run(string(protocol), func(t *testing.T) {
			req, err := newRequest(protocol, series, era(load.Start))
			require.NoError(t, err)
			require.Less(t, len(req.Body), len(series)*110, "labels are compressed across series")
			for round := range 3 {
				value := func(i int) float64 {
					switch i % 3 {
					case 0:
						return 0
					case 1:
						return math.Float64frombits(0x7ff0000000000002)
					}
					return float64(i) * 1.1 * float64(round)
				}
				for i := range series {
					req.Set(i, load.Start+int64(i*round), value(i))
				}
				raw, err := snappy.Decode(nil, req.Body)
				require.NoError(t, err)
				check := func(i int, ls labels.Labels, at int64, v float64) {
					require.Equal(t, series[i].String(), ls.String())
					require.Equal(t, load.Start+int64(i*round), at)
					require.Equal(t, math.Float64bits(value(i)), math.Float64bits(v))
				}
				var b labels.ScratchBuilder
				if protocol == V1 {
					var got prompb.WriteRequest
					require.NoError(t, got.Unmarshal(raw))
					require.Len(t, got.Timeseries, len(series))
					for i, s := range got.Timeseries {
						require.Len(t, s.Samples, 1)
						check(i, s.ToLabels(&b, nil), s.Samples[0].Timestamp, s.Samples[0].Value)
					}
					continue
				}
				var got writev2.Request
				require.NoError(t, got.Unmarshal(raw))
				require.Len(t, got.Timeseries, len(series))
				for i, s := range got.Timeseries {
					ls, err := s.ToLabels(&b, got.Symbols)
					require.NoError(t, err)
					check(i, ls, s.Samples[0].Timestamp, s.Samples[0].Value)
				}
			}
		})
	}
}

func TestLoadIsTheSameEachTimeAndEachSeriesIsAnother(t *testing.T) {
	load := testLoad(2*len(node())+100, 3)
	seen := map[string]bool{}
	for i := range load.Series {
		ls := load.Labels(i, 0)
		name, duplicate := ls.HasDuplicateLabelNames()
		require.False(t, duplicate, name)
		require.False(t, seen[ls.String()], "series %d is not new: %s", i, ls)
		seen[ls.String()] = true
	}
	clock, values, again := load.Clock(), load.Values(), load.Values()
	for i := range load.Series {
		require.Equal(t, load.Labels(i, 0).String(), load.Labels(i, 2).String(), "without churn nothing changes")
		for step := range load.Steps {
			at := clock.At(load.target(i), step)
			require.GreaterOrEqual(t, at, load.Start-10)
			require.Less(t, at, load.End())
			require.Equal(t, math.Float64bits(values.At(i, step)), math.Float64bits(again.At(i, step)))
		}
	}
}

func TestChurnReplacesPods(t *testing.T) {
	load := testLoad(len(node()), 240)
	load.Churn = 0.5
	replaced := map[int]bool{}
	pods := map[int]bool{}
	for i := range load.Series {
		pod := node()[i].pod
		if pod < 0 {
			require.Equal(t, load.Labels(i, 0).String(), load.Labels(i, 239).String())
			continue
		}
		pods[pod] = true
		if load.Labels(i, 0).Get("pod") != load.Labels(i, 239).Get("pod") {
			replaced[pod] = true
		}
	}
	require.NotEmpty(t, replaced)
	require.Less(t, len(replaced), len(pods))
}
