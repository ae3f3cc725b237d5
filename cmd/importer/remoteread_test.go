package importer

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// endpoint is remote read as Prometheus itself serves it, with a limit of samples for answers that are not streamed.
func endpoint(t testing.TB, db *tsdb.DB, sampleLimit int, filter func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	h := remote.NewReadHandler(slog.New(slog.DiscardHandler), nil, db, func() config.Config { return config.Config{} }, sampleLimit, 10, 1<<16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filter(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func readOptions(url string) RemoteReadOptions {
	return RemoteReadOptions{URL: url, Client: configutil.DefaultHTTPClientConfig, Timeout: time.Minute}
}

// fromStart asks for all that the history has, up to now.
func fromStart() Options {
	o := options()
	o.Mint = today.Add(-5 * 24 * time.Hour).UnixMilli()
	return o
}

// TestRemoteReadAnswersAsPrometheus imports over remote read, streamed, from an endpoint that fails now and then.
func TestRemoteReadAnswersAsPrometheus(t *testing.T) {
	pg := pgtest.New(t)
	prom := openTSDB(t, history(t))
	want := raw(t, prom, -always, always, labels.EmptyLabels())
	var asked atomic.Int64
	url := endpoint(t, prom, 10, func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1)%4 == 2 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return false
		}
		return true
	})
	run := func(im *Importer) error { return im.RemoteRead(context.Background(), readOptions(url)) }
	require.EqualValues(t, count(want), runImport(t, pg, fromStart(), true, run).Samples.Load())
	require.EqualValues(t, count(want), runImport(t, pg, fromStart(), false, run).Samples.Load())
	db := serve(t, pg)
	same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
	samePromQL(t, prom, db)
	require.Zero(t, runImport(t, pg, fromStart(), false, run).Samples.Load(), "these days are over, and noted")
}

// TestRemoteReadOfSamples imports from an endpoint that does not stream, and refuses large answers.
func TestRemoteReadOfSamples(t *testing.T) {
	pg := pgtest.New(t)
	prom := openTSDB(t, history(t))
	want := raw(t, prom, -always, always, labels.EmptyLabels())
	for _, samples := range want {
		for i, s := range samples {
			// Messages of samples leave zeros out, and so the sign of one.
			samples[i] = strings.ReplaceAll(s, " 8000000000000000", " 0")
		}
	}
	url := endpoint(t, prom, 20_000, func(w http.ResponseWriter, r *http.Request) bool {
		// What a server does that knows nothing of accepted response types.
		req, err := remote.DecodeReadRequest(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		req.AcceptedResponseTypes = nil
		body, err := encodeRead(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return false
		}
		r.Body = io.NopCloser(body)
		return true
	})
	runImport(t, pg, fromStart(), false, func(im *Importer) error { return im.RemoteRead(context.Background(), readOptions(url)) })
	same(t, want, raw(t, serve(t, pg), -always, always, labels.EmptyLabels()))
}

// TestRemoteReadGoesOn stops imports in the middle of days.
func TestRemoteReadGoesOn(t *testing.T) {
	pg := pgtest.New(t)
	prom := openTSDB(t, history(t))
	want := raw(t, prom, -always, always, labels.EmptyLabels())
	url := endpoint(t, prom, 10, func(http.ResponseWriter, *http.Request) bool { return true })
	o := readOptions(url)
	o.Window = time.Hour
	run := func(ctx context.Context, im *Importer) error { return im.RemoteRead(ctx, o) }
	for range 2 {
		require.Less(t, stopped(t, pg, fromStart(), int64(count(want)/4), run), int64(count(want)))
	}
	stats := runImport(t, pg, fromStart(), false, func(im *Importer) error { return run(context.Background(), im) })
	require.Less(t, stats.Samples.Load(), int64(count(want)*3/4))
	same(t, want, raw(t, serve(t, pg), -always, always, labels.EmptyLabels()))
}

func TestRemoteReadErrors(t *testing.T) {
	pg := pgtest.New(t)
	to, err := storage.OpenImport(context.Background(), testConfig(t, pg), storage.ImportOptions{})
	require.NoError(t, err)
	defer to.Close()
	ctx := context.Background()
	require.ErrorContains(t, New(to, options()).RemoteRead(ctx, readOptions("http://localhost:1/read")), "--from is needed")
	require.ErrorContains(t, New(to, fromStart()).RemoteRead(ctx, readOptions("nonsense")), "is no URL of a remote_read endpoint")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) }))
	defer server.Close()
	require.ErrorContains(t, New(to, fromStart()).RemoteRead(ctx, readOptions(server.URL)), "401 Unauthorized: who are you?")
}

func encodeRead(req *prompb.ReadRequest) (io.Reader, error) {
	body, err := req.Marshal()
	return bytes.NewReader(snappy.Encode(nil, body)), err
}
