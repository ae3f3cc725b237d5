package chunks

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/series"
)

// BenchmarkLoad brings the rows of a series together, a week of days of 15-second samples, in the memory of the series before and in its own.
func BenchmarkLoad(b *testing.B) {
	const days, n = 7, 5760
	var rows []Clipped
	for day := range int64(days) {
		var set series.Set
		for i := range int64(n) {
			set.T, set.V = append(set.T, day*Day+i*15_000), append(set.V, float64(day*n+i))
		}
		made, err := encode(nil, 1, 1, &set, nil)
		require.NoError(b, err)
		rows = append(rows, Clipped{made[0], math.MinInt64, math.MaxInt64})
	}
	var reused series.Set
	for name, fresh := range map[string]bool{"reused": false, "own": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set := &reused
				if fresh {
					set = new(series.Set)
				}
				if err := Load(set, rows); err != nil || len(set.T) != days*n {
					b.Fatal(err, len(set.T))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(days*n), "ns/sample")
		})
	}
}
