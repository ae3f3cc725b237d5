package codec

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec/codectest"
)

// benchRows are the numbers of samples of a row that occur, at an interval of 15 s: five
// and ten minutes (a flush), 30 minutes, two hours, a day.
var benchRows = []int{20, 40, 120, 480, 5760}

const benchSeries = 212 // twice the sum of all weights

func eachRow(corpus []codectest.Series, n int, f func(t []int64, v []float64)) {
	for _, s := range corpus {
		for lo := 0; lo+n <= len(s.T); lo += n {
			f(s.T[lo:lo+n], s.V[lo:lo+n])
		}
	}
}

// report adds samples/s, by the clock and by the processor's time since cpu, and bytes/sample to what a benchmark says.
func report(b *testing.B, samples, bytes int, cpu time.Duration) {
	b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
	b.ReportMetric(float64(samples)*float64(b.N)/cpu.Seconds()/1e6, "Msamples/cpu-s")
	b.ReportMetric(float64(bytes)/float64(samples), "B/sample")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkEncode(b *testing.B) {
	corpus := codectest.Corpus(1, benchSeries, 5760)
	for _, n := range benchRows {
		b.Run(fmt.Sprintf("row=%d/codec", n), func(b *testing.B) {
			var e Encoder
			var row []byte
			cpu := cpuTime()
			for b.Loop() {
				eachRow(corpus, n, func(t []int64, v []float64) { row = e.Append(row[:0], t, v, nil) })
			}
			cpu = cpuTime() - cpu
			samples, bytes := 0, 0
			eachRow(corpus, n, func(t []int64, v []float64) {
				samples += n
				bytes += len(e.Append(row[:0], t, v, nil))
			})
			report(b, samples, bytes, cpu)
		})
		if n > 480 {
			continue // an XOR chunk of a day is not what Prometheus writes
		}
		b.Run(fmt.Sprintf("row=%d/xor", n), func(b *testing.B) {
			samples, bytes := 0, 0
			cpu := cpuTime()
			for b.Loop() {
				samples, bytes = 0, 0
				eachRow(corpus, n, func(t []int64, v []float64) {
					bytes += len(xorChunk(t, v).Bytes())
					samples += n
				})
			}
			cpu = cpuTime() - cpu
			report(b, samples, bytes, cpu)
		})
	}
}

func xorChunk(t []int64, v []float64) *chunkenc.XORChunk {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	for i := range t {
		app.Append(0, t[i], v[i])
	}
	return c
}

func BenchmarkDecode(b *testing.B) {
	corpus := codectest.Corpus(1, benchSeries, 5760)
	for _, n := range benchRows {
		b.Run(fmt.Sprintf("row=%d/codec", n), func(b *testing.B) {
			var rows [][]byte
			samples, bytes := 0, 0
			eachRow(corpus, n, func(t []int64, v []float64) {
				rows = append(rows, Append(nil, t, v, nil))
				samples += n
				bytes += len(rows[len(rows)-1])
			})
			var c Columns
			cpu := cpuTime()
			for b.Loop() {
				for _, row := range rows {
					c.Reset()
					if err := c.Decode(row); err != nil {
						b.Fatal(err)
					}
				}
			}
			cpu = cpuTime() - cpu
			report(b, samples, bytes, cpu)
		})
		if n > 480 {
			continue
		}
		b.Run(fmt.Sprintf("row=%d/xor", n), func(b *testing.B) {
			var rows []*chunkenc.XORChunk
			samples, bytes := 0, 0
			eachRow(corpus, n, func(t []int64, v []float64) {
				rows = append(rows, xorChunk(t, v))
				samples += n
				bytes += len(rows[len(rows)-1].Bytes())
			})
			var it chunkenc.Iterator
			var c Columns
			cpu := cpuTime()
			for b.Loop() {
				for _, row := range rows {
					c.Reset()
					it = row.Iterator(it)
					for it.Next() != chunkenc.ValNone {
						t, v := it.At()
						c.T, c.V = append(c.T, t), append(c.V, v)
					}
				}
			}
			cpu = cpuTime() - cpu
			report(b, samples, bytes, cpu)
		})
	}
}

// BenchmarkKinds shows where bytes and time go: rows of 480 samples of each
// kind alone.
func BenchmarkKinds(b *testing.B) {
	const n = 480
	for _, k := range codectest.Kinds() {
		var corpus []codectest.Series
		for seed := range uint64(10) {
			corpus = append(corpus, codectest.Series{T: codectest.Timestamps(seed, 1920), V: k.Values(seed, 1920)})
		}
		var rows [][]byte
		samples, bytes := 0, 0
		eachRow(corpus, n, func(t []int64, v []float64) {
			rows = append(rows, Append(nil, t, v, nil))
			samples += n
			bytes += len(rows[len(rows)-1])
		})
		b.Run(k.Name+"/encode", func(b *testing.B) {
			var e Encoder
			var row []byte
			cpu := cpuTime()
			for b.Loop() {
				eachRow(corpus, n, func(t []int64, v []float64) { row = e.Append(row[:0], t, v, nil) })
			}
			cpu = cpuTime() - cpu
			report(b, samples, bytes, cpu)
		})
		b.Run(k.Name+"/decode", func(b *testing.B) {
			var c Columns
			cpu := cpuTime()
			for b.Loop() {
				for _, row := range rows {
					c.Reset()
					require.NoError(b, c.Decode(row))
				}
			}
			cpu = cpuTime() - cpu
			report(b, samples, bytes, cpu)
		})
	}
}
