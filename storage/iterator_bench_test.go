package storage

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// BenchmarkIterator walks over the floats of a series of 6 hours, which are decoded already: Next alone, and with At.
func BenchmarkIterator(b *testing.B) {
	const n = 1438
	own := &iterator{}
	for k := range n {
		own.set.T, own.set.V = append(own.set.T, int64(k)*15_000), append(own.set.V, float64(k))
	}
	perSample := func(b *testing.B) { b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample") }
	var it chunkenc.Iterator = own
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			own.reset()
			got := 0
			for it.Next() != chunkenc.ValNone {
				got++
			}
			if got != n {
				b.Fatal(got)
			}
		}
		perSample(b)
	})
	b.Run("at", func(b *testing.B) {
		for b.Loop() {
			own.reset()
			sum := 0.0
			for it.Next() != chunkenc.ValNone {
				t, v := it.At()
				sum += float64(t) + v
			}
			if sum == 0 {
				b.Fatal("nothing")
			}
		}
		perSample(b)
	})
}
