package adapter_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	migrate := func(ctx context.Context, pg *pgtest.DB) error {
		_, err := storage.Migrate(ctx, storage.Config{URI: pg.URI, Logger: slog.New(slog.DiscardHandler)})
		return err
	}
	goleak.VerifyTestMain(pgtest.M{M: m, Fill: migrate}, pgtest.IgnoreServers()...)
}

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// base is a time that samples of tests begin at, in ms.
var base = time.Now().Add(-30 * time.Minute).Truncate(time.Second).UnixMilli()

type bundle struct {
	db       *storage.DB
	handler  *adapter.WriteHandler
	server   *httptest.Server
	registry *prometheus.Registry
}

// setup serves a handler over storage on a real database.
func setup(t testing.TB, uri string, opts adapter.Options) *bundle {
	t.Helper()
	return setupStore(t, storage.Config{URI: uri}, opts)
}

func setupStore(t testing.TB, cfg storage.Config, opts adapter.Options) *bundle {
	t.Helper()
	db, err := storage.Open(context.Background(), storage.Config{
		URI: cfg.URI, MaxTenants: cfg.MaxTenants, NoMaintenance: true,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	require.NoError(t, err)
	t.Cleanup(func() { pgtest.Close(t, "the store", func() { db.Close() }) })
	b := &bundle{db: db, registry: prometheus.NewRegistry()}
	opts.Registerer = b.registry
	b.handler = adapter.NewWriteHandler(adapter.NewStore(db), opts)
	b.server = httptest.NewServer(b.handler)
	t.Cleanup(func() { pgtest.Close(t, "the server", b.server.Close) })
	t.Cleanup(func() { require.Zero(t, b.metric(t, "promkeep_remote_write_in_flight_bytes")) })
	return b
}

func newBundle(t testing.TB, opts adapter.Options) *bundle {
	return setup(t, pgtest.New(t).URI, opts)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

type answer struct {
	code   int
	header http.Header
	body   string
}

type marshaler interface{ Marshal() ([]byte, error) }

func compress(t testing.TB, m marshaler) []byte {
	t.Helper()
	raw, err := m.Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, raw)
}

// post sends a body with headers, given as names and values.
func (b *bundle) post(t testing.TB, body []byte, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.server.URL+"/api/v1/write", bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return do(t, b.server.Client(), req)
}

func do(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	res, err := c.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(text)}
}

func (b *bundle) writeV1(t testing.TB, req *prompb.WriteRequest) answer {
	t.Helper()
	return b.post(t, compress(t, req), "Content-Type", typeV1, "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
}

func (b *bundle) writeV2(t testing.TB, req *writev2.Request) answer {
	t.Helper()
	return b.post(t, compress(t, req), "Content-Type", typeV2, "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "2.0.0")
}

// metric returns the value of a metric with given label values, or 0.
func (b *bundle) metric(t testing.TB, name string, values ...string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, v := range values {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetValue() == v
				}
				if !found {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

// read returns all samples whose series match, one per line, with floats by their bits.
func (b *bundle) read(t testing.TB, tenant string, ms ...*labels.Matcher) []string {
	t.Helper()
	return b.readWith(t, tenant, func(line string, _ *histogram.FloatHistogram) string { return line }, ms...)
}

// readWith is read with lines of histograms changed by more.
func (b *bundle) readWith(t testing.TB, tenant string, more func(string, *histogram.FloatHistogram) string, ms ...*labels.Matcher) []string {
	t.Helper()
	q, err := b.db.Querier(0, math.MaxInt64/2)
	require.NoError(t, err)
	defer q.Close()
	ctx := context.Background()
	if tenant != "" {
		ctx = storage.WithTenant(ctx, tenant)
	}
	set := q.Select(ctx, true, nil, ms...)
	var out []string
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			switch typ {
			case chunkenc.ValFloat:
				ts, v := it.At()
				out = append(out, floatLine(s.Labels(), ts, v))
			case chunkenc.ValHistogram:
				ts, h := it.AtHistogram(nil)
				out = append(out, more(histogramLine(s.Labels(), ts, h.ToFloat(nil)), h.ToFloat(nil)))
			case chunkenc.ValFloatHistogram:
				ts, h := it.AtFloatHistogram(nil)
				out = append(out, more(histogramLine(s.Labels(), ts, h), h))
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func floatLine(ls labels.Labels, t int64, v float64) string {
	return fmt.Sprintf("%s %d %016x", ls, t-base, math.Float64bits(v))
}

func histogramLine(ls labels.Labels, t int64, h *histogram.FloatHistogram) string {
	return fmt.Sprintf("%s %d %s %x", ls, t-base, h, math.Float64bits(h.Sum))
}

func matching(name string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, "__name__", name)
}

// series is a 1.0 time series with the labels, given as names and values, and one sample at base.
func series(names ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: base, Value: 1}}}
	for i := 0; i < len(names); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: names[i], Value: names[i+1]})
	}
	return ts
}

func requestOf(series ...prompb.TimeSeries) *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: series}
}
