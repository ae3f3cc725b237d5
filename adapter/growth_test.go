package adapter_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
)

// protobufBombs are requests that are small when decompressed, of which a batch would come to hold many times as much.
func protobufBombs(t testing.TB) map[string][]byte {
	out := map[string][]byte{}
	add := func(name string, m marshaler) {
		raw, err := m.Marshal()
		require.NoError(t, err)
		require.Less(t, len(raw), 5<<20, name)
		out[name] = snappy.Encode(nil, raw)
	}
	floats, histograms, names := series("__name__", "a"), series("__name__", "a"), &prompb.WriteRequest{}
	floats.Samples, histograms.Samples = nil, nil
	for i := range 400_000 {
		floats.Samples = append(floats.Samples, prompb.Sample{Timestamp: base + int64(i)})
	}
	add("floats", requestOf(floats))
	for i := range 100_000 {
		histograms.Histograms = append(histograms.Histograms, prompb.Histogram{Timestamp: base + int64(i)})
		names.Metadata = append(names.Metadata, prompb.MetricMetadata{MetricFamilyName: fmt.Sprint(i)})
	}
	add("histograms", requestOf(histograms))
	add("metadata", names)
	many := &prompb.WriteRequest{}
	for i := range 80_000 {
		many.Timeseries = append(many.Timeseries, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: fmt.Sprint(i)}},
			Samples: []prompb.Sample{{Timestamp: base}}})
	}
	add("series", many)

	// In 2.0 a text is sent once and meant many times.
	symbols := func() *writev2.Request {
		r := &writev2.Request{Symbols: []string{"", "__name__", strings.Repeat("v", 2000), strings.Repeat("h", 4000), strings.Repeat("\U0001F600", 127), "x"}}
		for i := range 100 {
			r.Symbols = append(r.Symbols, fmt.Sprint("l", i))
		}
		for i := range 6000 {
			r.Symbols = append(r.Symbols, fmt.Sprint("m", i))
		}
		return r
	}
	sample := []writev2.Sample{{Timestamp: base, Value: 1}}
	values, help, exemplars := symbols(), symbols(), symbols()
	for i := range 6000 {
		refs := []uint32{1, uint32(106 + i)}
		help.Timeseries = append(help.Timeseries, writev2.TimeSeries{LabelsRefs: refs, Samples: sample, Metadata: writev2.Metadata{HelpRef: 3}})
		if i < 100 {
			for l := range uint32(100) {
				refs = append(refs, 6+l, 2)
			}
			values.Timeseries = append(values.Timeseries, writev2.TimeSeries{LabelsRefs: refs, Samples: sample})
		}
	}
	one := writev2.TimeSeries{LabelsRefs: []uint32{1, 106}, Samples: sample}
	for i := range 40_000 {
		one.Exemplars = append(one.Exemplars, writev2.Exemplar{LabelsRefs: []uint32{5, 4}, Timestamp: base + int64(i)})
	}
	exemplars.Timeseries = []writev2.TimeSeries{one}
	add("2.0 label values", values)
	add("2.0 help", help)
	add("2.0 exemplars", exemplars)
	return out
}

// TestProtobufBombs: what a batch would hold counts as what requests hold together, so a bomb is refused before it has made more
// than that. It never could be taken, so it is not to be sent again.
func TestProtobufBombs(t *testing.T) {
	const limit = 12 << 20
	b := newBundle(t, adapter.Options{Limits: adapter.Limits{InFlightBytes: limit}})
	for name, body := range protobufBombs(t) {
		t.Run(name, func(t *testing.T) {
			serve := func() *httptest.ResponseRecorder {
				req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
				if strings.HasPrefix(name, "2.0") {
					req.Header.Set("Content-Type", typeV2)
				}
				w := httptest.NewRecorder()
				b.handler.ServeHTTP(w, req)
				return w
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := serve()
			runtime.ReadMemStats(&after)
			require.Equal(t, 413, w.Code, w.Body.String())
			require.Contains(t, w.Body.String(), "more than the limit of 12582912 bytes of memory")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*limit), "slices grow by doubling") // all that was ever allocated
			require.Zero(t, b.metric(t, "promkeep_remote_write_in_flight_bytes"))
			require.Zero(t, b.metric(t, "promkeep_remote_write_received_samples_total"))
			require.Empty(t, b.read(t, "", matching(".+")))
		})
	}
	require.EqualValues(t, 7, b.metric(t, "promkeep_remote_write_rejected_requests_total", "memory"))
	require.Equal(t, 204, b.writeV1(t, requestOf(of(2000, "__name__", "a"))).code)
}

// TestGrowthOfOthers: what other requests hold is no reason to refuse one for good.
func TestGrowthOfOthers(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	store := &heldStore{Store: adapter.NewStore(b.db), held: make(chan struct{}), hold: make(chan struct{})}
	handler := adapter.NewWriteHandler(store, adapter.Options{Limits: adapter.Limits{InFlightBytes: 1 << 20}, Registerer: prometheus.NewRegistry()})
	server := httptest.NewServer(handler)
	defer server.Close()
	post := func(ts prompb.TimeSeries) answer {
		req, err := http.NewRequest(http.MethodPost, server.URL, bytes.NewReader(compress(t, requestOf(ts))))
		require.NoError(t, err)
		return do(t, server.Client(), req)
	}
	release := sync.OnceFunc(func() { close(store.hold) })
	defer release() // or the server would wait for it, if the test fails
	first := make(chan answer, 1)
	go func() {
		defer close(first) // when it fails, too
		first <- post(of(15_000, "__name__", "a"))
	}()
	select {
	case <-store.held:
	case a := <-first:
		t.Fatalf("the first request is not committed: %d %s", a.code, a.body)
	}
	requireRetry(t, post(of(10_000, "__name__", "b")), 503, "requests hold the limit of 1048576 bytes")
	release()
	require.Equal(t, 204, (<-first).code)
	require.Equal(t, 204, post(of(10_000, "__name__", "b")).code)
}

// heldStore is a store whose first commit waits.
type heldStore struct {
	adapter.Store
	once       sync.Once
	held, hold chan struct{}
}

func (s *heldStore) NewBatch(ctx context.Context, tenant string) (adapter.Batch, error) {
	b, err := s.Store.NewBatch(ctx, tenant)
	return heldBatch{b, s}, err
}

type heldBatch struct {
	adapter.Batch
	s *heldStore
}

func (b heldBatch) Commit(ctx context.Context) error {
	b.s.once.Do(func() {
		close(b.s.held)
		<-b.s.hold
	})
	return b.Batch.Commit(ctx)
}
