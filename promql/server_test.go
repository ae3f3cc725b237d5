package promql

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// testServer is the handler on a real port, over a real store.
type testServer struct {
	*httptest.Server
	store *store
	from  time.Time // of the first sample; every series has one each 15 s for an hour
}

const (
	step    = 15 * time.Second
	samples = 240
)

// serve starts a handler over a store with known series, half of the samples in the database and half in memory.
func serve(t *testing.T, change ...func(*Options)) *testServer {
	t.Helper()
	s := openStore(t, pgtest.New(t))
	srv := &testServer{store: s, from: time.Now().Add(-samples * step).Truncate(step)}
	srv.load(t, 0, samples/2)
	require.NoError(t, s.moveTo(context.Background(), merged))
	srv.load(t, samples/2, samples)
	srv.Server = serveOver(t, s, change...).Server
	return srv
}

// serveOver starts a handler over the store as it is.
func serveOver(t *testing.T, s *store, change ...func(*Options)) *testServer {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	engine := NewEngine(EngineOptions{Registerer: registry})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	opts := Options{
		Queryable:  s,
		Engine:     engine,
		Retention:  "90d",
		Registerer: registry,
		Gatherer:   registry,
		Logger:     slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, f := range change {
		f(&opts)
	}
	h, err := NewHandler(opts)
	require.NoError(t, err)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &testServer{Server: srv, store: s}
}

// served are the series: label sets, and the value by the number of the sample.
var served = []struct {
	labels labels.Labels
	value  func(i int) float64
}{
	{labels.FromStrings("__name__", "up", "cluster", "a", "instance", "one:9090", "job", "prometheus"), func(int) float64 { return 1 }},
	{labels.FromStrings("__name__", "up", "cluster", "b", "instance", "one:9090", "job", "prometheus"), func(int) float64 { return 1 }},
	{labels.FromStrings("__name__", "up", "cluster", "b", "instance", "two:9100", "job", "node"), func(int) float64 { return 0 }},
	{labels.FromStrings("__name__", "requests_total", "cluster", "a", "code", "200"), func(i int) float64 { return float64(3 * i) }},
	{labels.FromStrings("__name__", "requests_total", "cluster", "b", "code", "500"), func(i int) float64 { return float64(i) }},
	{labels.FromStrings("__name__", "spans", "http.status_code", "200"), func(i int) float64 { return float64(i % 7) }},
}

func (s *testServer) load(t *testing.T, from, to int) {
	t.Helper()
	a := (&tenantStorage{store: s.store, name: ""}).AppenderV2(context.Background())
	for _, series := range served {
		for i := from; i < to; i++ {
			_, err := a.Append(0, series.labels, 0, s.at(i).UnixMilli(), series.value(i), nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, a.Commit())
}

// at is the time of sample i.
func (s *testServer) at(i int) time.Time { return s.from.Add(time.Duration(i) * step) }

// answer is what the API says.
type answer struct {
	code      int
	header    http.Header
	body      string
	Status    string
	ErrorType string
	Error     string
	Warnings  []string
	Data      json.RawMessage
}

func read(t *testing.T, resp *http.Response) (a answer) {
	t.Helper()
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(resp.Body)
		require.NoError(t, err)
		body = z
	}
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	a = answer{code: resp.StatusCode, header: resp.Header, body: string(b)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(t, json.Unmarshal(b, &a), "%s", b)
	}
	return a
}

func (s *testServer) get(t *testing.T, path string) answer {
	t.Helper()
	resp, err := s.Client().Get(s.URL + path)
	require.NoError(t, err)
	return read(t, resp)
}

// raw sends a request byte by byte as written (line ends aside) and returns what comes back.
func (s *testServer) raw(t *testing.T, head, body string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	lines := strings.Split(strings.TrimSpace(head), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	request := strings.Join(lines, "\r\n") + "\r\nHost: " + s.Listener.Addr().String() + "\r\nConnection: close\r\n"
	if body != "" {
		request += "Content-Length: " + jsonOf(t, len(body)) + "\r\n"
	}
	_, err = io.WriteString(conn, request+"\r\n"+body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return read(t, resp)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
