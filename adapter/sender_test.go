package adapter_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
)

// TestPrometheusQueueManager: Prometheus' own TSDB, log watcher and queue manager send everything they can, over both protocols,
// to a promkeep that fails now and then; all of it arrives, once.
func TestPrometheusQueueManager(t *testing.T) {
	for _, message := range []remoteapi.WriteMessageType{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType} {
		t.Run(string(message), func(t *testing.T) {
			b := newBundle(t, adapter.Options{})
			var mu sync.Mutex
			requests := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				requests++
				fail := requests%3 == 0
				mu.Unlock()
				if fail {
					w.Header().Set("Retry-After", "0")
					http.Error(w, "again, please", http.StatusServiceUnavailable)
					return
				}
				b.handler.ServeHTTP(w, r)
			}))
			defer server.Close()
			target, err := url.Parse(server.URL + "/api/v1/write")
			require.NoError(t, err)

			dir := t.TempDir()
			opts := tsdb.DefaultOptions()
			opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
			opts.EnableMetadataWALRecords = true
			db, err := tsdb.Open(dir, slog.New(slog.DiscardHandler), nil, opts, nil)
			require.NoError(t, err)
			defer db.Close()
			sender := prometheus.NewRegistry()
			rs := remote.NewStorage(slog.New(slog.DiscardHandler), sender, func() (int64, error) { return 0, nil }, dir, 5*time.Second, nil, false)
			defer rs.Close()
			db.SetWriteNotified(rs)
			queue := config.DefaultQueueConfig
			queue.BatchSendDeadline = model.Duration(50 * time.Millisecond)
			queue.MinBackoff, queue.MaxBackoff = model.Duration(time.Millisecond), model.Duration(10*time.Millisecond)
			queue.MaxSamplesPerSend = 100
			require.NoError(t, rs.ApplyConfig(&config.Config{
				GlobalConfig: config.GlobalConfig{ExternalLabels: labels.FromStrings("cluster", "test")},
				RemoteWriteConfigs: []*config.RemoteWriteConfig{{
					URL: &commonconfig.URL{URL: target}, RemoteTimeout: model.Duration(time.Minute), Name: "promkeep",
					ProtobufMessage: message, SendExemplars: true, SendNativeHistograms: true, QueueConfig: queue,
				}},
			}))

			// The watcher sends what is younger than its start.
			begin := time.Now().Add(10 * time.Second).UnixMilli()
			var want []string
			for step := range 20 {
				at := begin + int64(step)*1000
				app := db.Appender(context.Background())
				for i := range 50 {
					ls := labels.FromStrings("__name__", "requests_total", "i", fmt.Sprint(i))
					v := float64(step * i)
					if step == 19 && i%2 == 0 {
						v = math.Float64frombits(value.StaleNaN)
					}
					ref, err := app.Append(0, ls, at, v)
					require.NoError(t, err)
					if step == 0 {
						_, err = app.UpdateMetadata(ref, ls, metadata.Metadata{Type: model.MetricTypeCounter, Help: "Requests.", Unit: "requests"})
						require.NoError(t, err)
					}
					if i == 0 {
						_, err = app.AppendExemplar(ref, ls, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", fmt.Sprint(step)), Value: v, Ts: at, HasTs: true})
						require.NoError(t, err)
					}
					want = append(want, floatLine(labels.FromStrings("__name__", "requests_total", "cluster", "test", "i", fmt.Sprint(i)), at, v))
				}
				h, fh := tsdbutil.GenerateTestHistogram(int64(step)), tsdbutil.GenerateTestFloatHistogram(int64(step))
				_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "ints"), at, h, nil)
				require.NoError(t, err)
				want = append(want, histogramLine(labels.FromStrings("__name__", "ints", "cluster", "test"), at, h.ToFloat(nil)))
				_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "floats"), at, nil, fh)
				require.NoError(t, err)
				want = append(want, histogramLine(labels.FromStrings("__name__", "floats", "cluster", "test"), at, fh))
				custom := tsdbutil.GenerateTestCustomBucketsHistogram(int64(step))
				_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "custom"), at, custom, nil)
				require.NoError(t, err)
				if message == remoteapi.WriteV2MessageType { // the queue manager keeps custom buckets out of 1.0, which does not know them
					want = append(want, histogramLine(labels.FromStrings("__name__", "custom", "cluster", "test"), at, custom.ToFloat(nil)))
				}
				require.NoError(t, app.Commit())
			}
			var got []string
			require.Eventually(t, func() bool {
				rs.Notify() // of a write that came before the watcher was there; it looks by itself only every 15 s
				got = b.read(t, "", matching(".+"))
				return len(got) >= len(want)
			}, time.Minute, 50*time.Millisecond)
			slices.Sort(want)
			slices.Sort(got)
			require.Equal(t, want, got)

			sent := func(name string) float64 { return value1(t, sender, "prometheus_remote_storage_"+name+"_total") }
			require.GreaterOrEqual(t, sent("samples"), 1000.0, "those sent again count again")
			require.Zero(t, sent("samples_failed"))
			require.Zero(t, sent("histograms_failed"))
			// Those of a commit lie behind its samples in Prometheus' log, so the last may come in another request.
			exemplars := func() float64 {
				return b.metric(t, "promkeep_remote_write_received_samples_total", "exemplar", map[bool]string{true: "2.0", false: "1.0"}[message == remoteapi.WriteV2MessageType])
			}
			require.Eventually(t, func() bool { return exemplars() >= 20 }, time.Minute, 10*time.Millisecond)
			require.EqualValues(t, 20, exemplars())
			// A 2.0 sender is told the truth about exemplars, whether the store keeps them or not.
			batch, err := adapter.NewStore(b.db).NewBatch(context.Background(), "")
			require.NoError(t, err)
			_, keeps := batch.(adapter.ExemplarBatch)
			batch.Release()
			lost := 0
			if !keeps && message == remoteapi.WriteV2MessageType {
				lost = 20
			}
			require.EqualValues(t, lost, sent("exemplars_failed"))
		})
	}
}

// value1 returns the value of a counter without labels, or with one set of them.
func value1(t testing.TB, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "no metric "+name)
	return 0
}

// TestClientGolangAPI: the reference client for senders other than Prometheus, which checks the 2.0 headers.
func TestClientGolangAPI(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	api, err := remoteapi.NewAPI(b.server.URL, remoteapi.WithAPIHTTPClient(b.server.Client()))
	require.NoError(t, err)
	stats, err := api.Write(context.Background(), remoteapi.WriteV1MessageType, requestOf(series("__name__", "a")))
	require.NoError(t, err)
	require.Zero(t, stats.Samples)

	for i, body := range benchRequests(t, 1, true) {
		a := b.post(t, body, "Content-Type", typeV2)
		require.Equal(t, 204, a.code, i)
		n, err := strconv.Atoi(a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
		require.NoError(t, err)
		require.Equal(t, benchSeries, n)
	}
}
