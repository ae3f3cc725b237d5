package adapter_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/adapter/wire"
	"github.com/promkeep/promkeep/storage/pgtest"
)

const benchSeries = 2000

func benchLabels(i int) labels.Labels {
	return labels.FromStrings("__name__", fmt.Sprintf("node_metric_%d_total", i%97), "cluster", "eu-west-1-production",
		"device", fmt.Sprintf("eth%d", i%4), "endpoint", "https-metrics", "instance", fmt.Sprintf("10.42.%d.%d:9100", i/250%250, i%250),
		"job", "node-exporter", "namespace", "monitoring", "pod", fmt.Sprintf("node-exporter-%05x", i), "prometheus", "monitoring/k8s")
}

// benchRequests are compressed requests of 2,000 series with a sample each, at the next scrapes from base on.
func benchRequests(b testing.TB, n int, v2 bool) [][]byte {
	out := make([][]byte, n)
	for k := range out {
		at := base + int64(k)*15_000
		var m marshaler
		if v2 {
			st, req := writev2.NewSymbolTable(), &writev2.Request{}
			for i := range benchSeries {
				req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
					LabelsRefs: st.SymbolizeLabels(benchLabels(i), nil),
					Samples:    []writev2.Sample{{Timestamp: at, Value: float64(i * k)}},
					Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: st.Symbolize(fmt.Sprintf("Help of metric %d.", i%97))},
				})
			}
			req.Symbols = st.Symbols()
			m = req
		} else {
			req := &prompb.WriteRequest{}
			for i := range benchSeries {
				req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
					Labels:  prompb.FromLabels(benchLabels(i), nil),
					Samples: []prompb.Sample{{Timestamp: at, Value: float64(i * k)}},
				})
			}
			m = req
		}
		out[k] = compress(b, m)
	}
	return out
}

// mapStore finds series in a map and keeps nothing, to show what the adapter itself costs.
type mapStore struct{ known map[wire.Key]int }

func (s *mapStore) NewBatch(context.Context, string) (adapter.Batch, error) {
	return &mapBatch{s: s}, nil
}
func (s *mapStore) MinTime() int64 { return 0 }

type mapBatch struct {
	s  *mapStore
	at int
	n  int
}

func (b *mapBatch) Known(k wire.Key) (ok bool) {
	b.at, ok = b.s.known[k]
	return ok
}
func (b *mapBatch) New(k wire.Key, _ labels.Labels)                              { b.s.known[k] = len(b.s.known) }
func (b *mapBatch) Float(int64, int64, float64)                                  { b.n++ }
func (b *mapBatch) Histogram(int64, int64, *histogram.Histogram) error           { return nil }
func (b *mapBatch) FloatHistogram(int64, int64, *histogram.FloatHistogram) error { return nil }
func (b *mapBatch) Commit(context.Context) error                                 { return nil }
func (b *mapBatch) Release()                                                     {}

// discard is a response writer that keeps nothing but the code.
type discard struct {
	header http.Header
	code   int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(code int)        { d.code = code }

type rewinder struct{ *bytes.Reader }

func (rewinder) Close() error { return nil }

func benchHandler(b *testing.B, h http.Handler, requests [][]byte, kind string) {
	w := &discard{header: http.Header{}}
	body := rewinder{bytes.NewReader(nil)}
	req, err := http.NewRequest(http.MethodPost, "/api/v1/write", nil)
	require.NoError(b, err)
	req.Header.Set("Content-Type", kind)
	req.Body = body
	serve := func(i int) {
		body.Reset(requests[i%len(requests)])
		req.ContentLength = int64(body.Len())
		h.ServeHTTP(w, req)
		if w.code != http.StatusNoContent {
			b.Fatal(w.code)
		}
	}
	serve(0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		serve(i)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/sample")
}

// BenchmarkAdapter is the handler without storage: reading, decompressing, decoding, and looking up known series.
func BenchmarkAdapter(b *testing.B) {
	for kind, v2 := range map[string]bool{typeV1: false, typeV2: true} {
		b.Run(map[bool]string{false: "1.0", true: "2.0"}[v2], func(b *testing.B) {
			h := adapter.NewWriteHandler(&mapStore{map[wire.Key]int{}}, adapter.Options{Registerer: prometheus.NewRegistry()})
			benchHandler(b, h, benchRequests(b, 10, v2), kind)
		})
	}
}

// BenchmarkWriteHandler is the whole way to the ack, over storage on a PostgreSQL with fsync on. One sender waits for each
// commit; parallel senders share commits.
func BenchmarkWriteHandler(b *testing.B) {
	setupBench := func(b *testing.B) (*bundle, [][]byte) {
		return setup(b, pgtest.NewServer(b).NewDB(b).URI, adapter.Options{MaxFuture: 1000 * time.Hour}), benchRequests(b, 200, false)
	}
	b.Run("one sender", func(b *testing.B) {
		bu, requests := setupBench(b)
		benchHandler(b, bu.handler, requests, typeV1)
	})
	b.Run("16 senders", func(b *testing.B) {
		bu, requests := setupBench(b)
		require.Equal(b, 204, bu.post(b, requests[0]).code)
		b.ReportAllocs()
		b.SetParallelism(8)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			w := &discard{header: http.Header{}}
			for i := 0; pb.Next(); i++ {
				req, _ := http.NewRequest(http.MethodPost, "/", io.NopCloser(bytes.NewReader(requests[i%len(requests)])))
				if bu.handler.ServeHTTP(w, req); w.code != http.StatusNoContent {
					b.Error(w.code)
				}
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/sample")
	})
}

// BenchmarkSnappy decides which decoder to use.
func BenchmarkSnappy(b *testing.B) {
	body := benchRequests(b, 1, false)[0]
	n, err := snappy.DecodedLen(body)
	require.NoError(b, err)
	dst := make([]byte, n)
	for name, decode := range map[string]func(dst, src []byte) ([]byte, error){"golang": snappy.Decode, "s2": s2.Decode} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				if _, err := decode(dst, body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/sample")
		})
	}
}
