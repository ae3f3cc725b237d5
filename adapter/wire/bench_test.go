package wire

import (
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

const benchSeries = 2000

func perSeries(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/series")
}

// BenchmarkV1 is the steady state: every series is known.
func BenchmarkV1(b *testing.B) {
	request, err := singleSamples(benchSeries).Marshal()
	require.NoError(b, err)
	b.Run("decoder", func(b *testing.B) {
		var d V1
		benchKnown(b, &d, request)
	})
	b.Run("prompb", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(request)))
		for b.Loop() {
			var req prompb.WriteRequest
			if err := req.Unmarshal(request); err != nil {
				b.Fatal(err)
			}
		}
		perSeries(b)
	})
}

// BenchmarkV2 is the same for 2.0, with start timestamps and metadata.
func BenchmarkV2(b *testing.B) {
	request, err := singleSamplesV2(benchSeries).Marshal()
	require.NoError(b, err)
	b.Run("decoder", func(b *testing.B) {
		var d V2
		benchKnown(b, &d, request)
	})
	b.Run("writev2", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(request)))
		for b.Loop() {
			var req writev2.Request
			if err := req.Unmarshal(request); err != nil {
				b.Fatal(err)
			}
		}
		perSeries(b)
	})
}

// benchKnown decodes and looks the keys up in a map, as whoever drives a decoder does.
func benchKnown(b *testing.B, d decoder, request []byte) {
	ids := map[Key]int{}
	var sum float64
	run := func(learn bool) (unknown int) {
		if err := d.Reset(request); err != nil {
			b.Fatal(err)
		}
		for d.Next() {
			if learn {
				ids[d.Key()] = len(ids)
			}
			if _, ok := ids[d.Key()]; !ok {
				unknown++
			}
			for d.NextSample() {
				sum += d.Sample().V
			}
		}
		return unknown
	}
	run(true)
	require.Len(b, ids, benchSeries)
	b.ReportAllocs()
	b.SetBytes(int64(len(request)))
	for b.Loop() {
		if n := run(false); n != 0 || d.Err() != nil {
			b.Fatal(n, d.Err())
		}
	}
	perSeries(b)
}
