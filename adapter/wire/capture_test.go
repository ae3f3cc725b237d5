package wire

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// TestCaptures reads what a real Prometheus 2.42 sent that scraped itself, with two external labels: the bodies of its first
// request and of a later one.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob("../testdata/prometheus-*.snappy")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(t, err)
		request, err := snappy.Decode(nil, body)
		require.NoError(t, err)
		var req prompb.WriteRequest
		require.NoError(t, req.Unmarshal(request))
		got, err := dumpDecoded(new(V1), request)
		require.NoError(t, err)
		require.Equal(t, dumpV1(&req), got)
		t.Logf("%s: %d bytes, %d time series, %d metadata", filepath.Base(file), len(request), len(req.Timeseries), len(req.Metadata))

		// A key for each label set, and the same again.
		keys := map[Key]string{}
		for range 2 {
			var d V1
			require.NoError(t, d.Reset(request))
			for d.Next() {
				require.False(t, d.scattered)
				name := prompbLabels(req.Timeseries[d.Index()].Labels)
				if known, ok := keys[d.Key()]; ok {
					require.Equal(t, known, name)
				}
				keys[d.Key()] = name
			}
		}
		names := map[string]bool{}
		for _, name := range keys {
			require.False(t, names[name], "two keys for %s", name)
			names[name] = true
		}
	}
}

func prompbLabels(ls []prompb.Label) (s string) {
	for _, l := range ls {
		s += l.Name + "\x00" + l.Value + "\x00"
	}
	return s
}
