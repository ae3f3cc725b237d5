package adapter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func requireRetry(t testing.TB, a answer, code int, text string) {
	t.Helper()
	require.Equal(t, code, a.code, a.body)
	require.Contains(t, a.body, text)
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
}

// TestTooLarge: bodies past a limit are refused, before there is memory for what they promise.
func TestTooLarge(t *testing.T) {
	b := newBundle(t, adapter.Options{Limits: adapter.Limits{BodyBytes: 1 << 20, DecodedBytes: 2 << 20}})
	random := make([]byte, 2<<20) // does not compress
	for i := range random {
		random[i] = byte(i * i >> 8)
	}
	bomb := binary.AppendUvarint(nil, 1<<32-1)
	for name, c := range map[string]struct {
		body []byte
		code int
		text string
	}{
		"body":                     {random[:1<<20+1], 413, "larger than the limit of 1048576 bytes"},
		"decoded":                  {snappy.Encode(nil, make([]byte, 2<<20+1)), 413, "2097153 bytes when decompressed, the limit is 2097152"},
		"promised":                 {bomb, 413, "4294967295 bytes when decompressed"},
		"promised within limits":   {binary.AppendUvarint(nil, 2<<20), 400, "its 4 bytes cannot make the 2097152 it promises"},
		"exactly at the body size": {random[:1<<20], 400, "snappy"},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.post(t, c.body)
			require.Equal(t, c.code, a.code)
			require.Contains(t, a.body, c.text)

			req, err := http.NewRequest(http.MethodPost, b.server.URL, struct{ *bytes.Reader }{bytes.NewReader(c.body)})
			require.NoError(t, err)
			require.Zero(t, req.ContentLength)
			if a, err := b.server.Client().Do(req); err == nil { // the server may have hung up before all was sent
				require.Equal(t, c.code, a.StatusCode)
				a.Body.Close()
			}
		})
	}
	// The best ratio that snappy can reach must not be taken for a lie.
	raw := bytes.Repeat([]byte{9<<3 | 2, 0}, 1<<19)
	require.Equal(t, 204, b.post(t, snappy.Encode(nil, raw)).code, "a request of nothing but unknown fields")
}

// TestHostileRequestsAllocateLittle: what they make promkeep allocate is bounded by what they send.
func TestHostileRequestsAllocateLittle(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	huge := series("__name__", "a", "b", strings.Repeat("v", 40<<20))
	labelled := series("__name__", "a")
	for range 10_000 {
		labelled.Labels = append(labelled.Labels, labelled.Labels[0])
	}
	for name, body := range map[string][]byte{
		"promised length": binary.AppendUvarint(nil, 60<<20),
		"label of 40 MiB": compress(t, requestOf(huge)),
		"10,000 labels":   compress(t, requestOf(labelled)),
	} {
		t.Run(name, func(t *testing.T) {
			serve := func() {
				req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
				w := httptest.NewRecorder()
				b.handler.ServeHTTP(w, req)
				require.Equal(t, 400, w.Code)
			}
			serve()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			serve()
			runtime.ReadMemStats(&after)
			decoded, err := snappy.DecodedLen(body)
			require.NoError(t, err)
			limit := uint64(len(body)) * 4 // its buffer grows
			if name != "promised length" {
				limit += uint64(decoded) * 5 / 4
			}
			require.Less(t, after.TotalAlloc-before.TotalAlloc, limit+256<<10)
		})
	}
}

// TestInFlight: requests that together hold too much are sent away until others are done.
func TestInFlight(t *testing.T) {
	b := newBundle(t, adapter.Options{Limits: adapter.Limits{InFlightBytes: 64 << 10}, ReadTimeout: time.Minute})
	small := compress(t, requestOf(series("__name__", "a")))
	require.Equal(t, 204, b.post(t, small).code)

	// A sender that stops in the middle of a body holds what it has sent.
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	const sent = 64<<10 - 100
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("x", sent))
	require.Eventually(t, func() bool { return b.metric(t, "promkeep_remote_write_in_flight_bytes") == sent }, time.Minute, time.Millisecond)
	large := compress(t, requestOf(series("__name__", "a", "b", strings.Repeat("x", 1000))))
	requireRetry(t, b.post(t, large), 503, "requests hold the limit of 65536 bytes")

	conn.Close()
	require.Eventually(t, func() bool { return b.metric(t, "promkeep_remote_write_in_flight_bytes") == 0 }, time.Minute, time.Millisecond)
	require.Equal(t, 204, b.post(t, large).code)
	require.EqualValues(t, 2, b.metric(t, "promkeep_remote_write_requests_total", "1.0", "503"), "the refused and the broken one")
}

// TestSlowBody: a body that does not come is waited for only so long, and what was read of it is given back.
func TestSlowBody(t *testing.T) {
	b := newBundle(t, adapter.Options{ReadTimeout: 100 * time.Millisecond})
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxx")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 503, res.StatusCode, "a slow network is no reason to lose samples")
	require.True(t, res.Close)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
}

// TestTricklingBody: bytes that come one by one do not put off the end of waiting.
func TestTricklingBody(t *testing.T) {
	b := newBundle(t, adapter.Options{ReadTimeout: 300 * time.Millisecond})
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
	answered := make(chan struct{})
	go func() {
		for {
			select {
			case <-answered:
				return
			case <-time.After(5 * time.Millisecond):
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	began := time.Now()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	close(answered)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 503, res.StatusCode)
	require.Less(t, time.Since(began), 30*time.Second)
	require.EqualValues(t, 1, b.metric(t, "promkeep_remote_write_rejected_requests_total", "body"))
}

// TestBrokenOffBody: a sender that hangs up in the middle of a body leaves nothing behind.
func TestBrokenOffBody(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	body := compress(t, requestOf(of(1000, "__name__", "a")))
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)/2])
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return b.metric(t, "promkeep_remote_write_rejected_requests_total", "body") == 1 }, time.Minute, time.Millisecond)
	require.Zero(t, b.metric(t, "promkeep_remote_write_in_flight_bytes"))
	require.Empty(t, b.read(t, "", matching(".+")))
}

// TestLabelOf100MB: by default it is more than a request may have, and where it is not, the label is refused without being copied,
// and the rest of the request is stored.
func TestLabelOf100MB(t *testing.T) {
	request := requestOf(series("__name__", "good"), series("__name__", "a", "b", strings.Repeat("v", 100<<20)))
	body := compress(t, request)
	b := newBundle(t, adapter.Options{})
	a := b.post(t, body)
	require.Equal(t, 413, a.code)
	require.Contains(t, a.body, "when decompressed, the limit is 67108864")

	b = newBundle(t, adapter.Options{Limits: adapter.Limits{DecodedBytes: 256 << 20, InFlightBytes: 256 << 20}})
	for range 2 { // the second time the buffers are there
		var before, after runtime.MemStats
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		runtime.ReadMemStats(&before)
		b.handler.ServeHTTP(w, r)
		runtime.ReadMemStats(&after)
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), `the value of label "b" has 104857600 bytes, the limit is 2048`)
		require.Less(t, w.Body.Len(), 2000)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100<<20)*5/4+uint64(len(body))*4+1<<20)
	}
	require.Len(t, b.read(t, "", matching(".+")), 1)
}

// TestSlowCommit: the read timeout is for the body alone. While the commit takes longer, the client is not taken for gone.
func TestSlowCommit(t *testing.T) {
	t.Parallel()
	const timeout = time.Second // more than a busy machine takes to read a small body
	b := newBundle(t, adapter.Options{})
	h := adapter.NewWriteHandler(slowStore{adapter.NewStore(b.db), 2 * timeout}, adapter.Options{ReadTimeout: timeout, Registerer: prometheus.NewRegistry()})
	server := httptest.NewServer(h)
	defer server.Close()
	req, err := http.NewRequest(http.MethodPost, server.URL, bytes.NewReader(compress(t, requestOf(series("__name__", "a")))))
	require.NoError(t, err)
	a := do(t, server.Client(), req)
	require.Equal(t, 204, a.code, a.body)
	require.Len(t, b.read(t, "", matching("a")), 1)
}

// slowStore is a store that takes its time to commit, or until the client is gone.
type slowStore struct {
	adapter.Store
	delay time.Duration
}

func (s slowStore) NewBatch(ctx context.Context, tenant string) (adapter.Batch, error) {
	b, err := s.Store.NewBatch(ctx, tenant)
	return slowBatch{b, s.delay}, err
}

type slowBatch struct {
	adapter.Batch
	delay time.Duration
}

func (b slowBatch) Commit(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.delay):
		return b.Batch.Commit(ctx)
	}
}

// TestDatabaseAway: while PostgreSQL is away nothing is acknowledged, also nothing with invalid samples, and senders are
// told to come again; when it is back, samples are stored again.
func TestDatabaseAway(t *testing.T) {
	server := pgtest.NewServer(t)
	b := setup(t, server.NewDB(t).URI, adapter.Options{})
	good := requestOf(series("__name__", "a"))
	require.Equal(t, 204, b.writeV1(t, good).code)
	server.Stop(t)
	half := requestOf(series("__name__", "a"), series("job", "no name"))
	a := b.writeV1(t, half)
	requireRetry(t, a, 503, "")
	require.Contains(t, a.body, "database is unavailable")
	requireRetry(t, b.writeV1(t, requestOf(series("__name__", "new"))), 503, "database is unavailable")
	server.Start(t)
	require.Eventually(t, func() bool { return b.writeV1(t, good).code == 204 }, time.Minute, 50*time.Millisecond)
	require.Equal(t, 400, b.writeV1(t, half).code)
	require.Equal(t, []string{floatLine(labels.FromStrings("__name__", "a"), base, 1)}, b.read(t, "", matching(".+")))
}

// faultyStore gives an error of a kind that the store behind has no way to be brought to.
type faultyStore struct {
	adapter.Store
	err error
}

func (s faultyStore) NewBatch(context.Context, string) (adapter.Batch, error) { return nil, s.err }

type behaviour struct{ error }

type limitError struct{ behaviour }

func (limitError) LimitExceeded() string { return "samples per second: 1000" }

type rateError struct{ limitError }

func (rateError) RetryAfter() time.Duration { return 1500 * time.Millisecond }

// TestErrorsByBehaviour: which status an error of the store gets.
func TestErrorsByBehaviour(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	cause := behaviour{errors.New("cause")}
	for _, c := range []struct {
		err   error
		code  int
		retry bool
	}{
		{cause, 500, false},
		{limitError{cause}, 400, false},
		{fmt.Errorf("wrapped: %w", rateError{limitError{cause}}), 429, true},
		{context.Canceled, 503, true},
	} {
		h := adapter.NewWriteHandler(faultyStore{adapter.NewStore(b.db), c.err}, adapter.Options{Registerer: prometheus.NewRegistry()})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(compress(t, requestOf(series("__name__", "a"))))))
		a := answer{w.Code, w.Header(), w.Body.String()}
		require.Equal(t, c.code, a.code)
		if c.retry {
			requireRetry(t, a, c.code, c.err.Error())
		}
		var l limitError
		if errors.As(c.err, &l) || errors.As(c.err, new(rateError)) {
			require.Contains(t, a.body, "samples per second: 1000")
		}
	}
}

// TestConcurrent: many senders at once, known and new series, both good and bad, under the race detector if it is on.
func TestConcurrent(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	const senders, rounds = 8, 20
	var group sync.WaitGroup
	for s := range senders {
		group.Add(1)
		go func() {
			defer group.Done()
			for r := range rounds {
				req := requestOf(series("__name__", "shared", "s", fmt.Sprint(r)), series("__name__", "own", "s", fmt.Sprint(s), "r", fmt.Sprint(r)))
				want := 204
				if r%5 == 0 {
					req.Timeseries = append(req.Timeseries, series("job", "x"))
					want = 400
				}
				if a := b.writeV1(t, req); a.code != want {
					t.Errorf("%d: %s", a.code, a.body)
				}
			}
		}()
	}
	group.Wait()
	require.Len(t, b.read(t, "", matching("shared")), rounds)
	require.Len(t, b.read(t, "", matching("own")), rounds*senders)
}
