package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
)

// TestFlagsOfTheQuerySide gives promkeep low limits and goes past each of them, and sends what promtool's checks send.
func TestFlagsOfTheQuerySide(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t),
		"--query.max-samples", "1000", "--query.max-memory", "64KiB", "--query.lookback-delta", "1m", "--query.timeout", "90s",
		"--storage.remote.read-sample-limit", "10", "--storage.remote.read-max-bytes-in-frame", "1B",
		"--storage.remote.read-concurrent-limit", "3", "--web.cors.origin", `https://one\.example`).ready(t)
	const n = 6000
	last := time.Now().Add(-5 * time.Minute).Truncate(time.Second)
	var many []prompb.Sample
	for i := range n {
		many = append(many, prompb.Sample{Timestamp: last.Add(time.Duration(i-n+1) * time.Second).UnixMilli(), Value: float64(i)})
	}
	status, body, err := p.write(context.Background(), timeSeries(many, "__name__", "long"), timeSeries(many[n-2000:], "__name__", "short"))
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, status, body)

	ask := func(path string, params url.Values) (int, answer, http.Header) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, p.url+path+"?"+params.Encode(), nil)
		require.NoError(t, err)
		req.Header.Set("Origin", "https://one.example")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var a answer
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&a))
		return resp.StatusCode, a, resp.Header
	}
	query := func(expr string, at time.Time) (int, answer, http.Header) {
		t.Helper()
		return ask("/api/v1/query", url.Values{"query": {expr}, "time": {seconds(at)}})
	}

	t.Run("query.max-memory", func(t *testing.T) {
		code, a, _ := query("count_over_time(long[3h])", last)
		require.Equal(t, http.StatusUnprocessableEntity, code)
		require.Equal(t, "execution", a.ErrorType)
		require.Contains(t, a.Error, "more than 64KiB")
		require.Contains(t, a.Error, "--query.max-memory")
	})
	t.Run("query.max-samples", func(t *testing.T) {
		code, a, _ := query("count_over_time(short[3h])", last)
		require.Equal(t, http.StatusUnprocessableEntity, code)
		require.Equal(t, "execution", a.ErrorType)
		require.Contains(t, a.Error, "too many samples")
	})
	t.Run("query.lookback-delta", func(t *testing.T) {
		_, a, _ := query("count(long)", last.Add(59*time.Second))
		require.Contains(t, string(a.Data), `"1"`)
		_, a, _ = query("count(long)", last.Add(61*time.Second))
		require.JSONEq(t, `{"resultType":"vector","result":[]}`, string(a.Data))
	})
	t.Run("web.cors.origin", func(t *testing.T) {
		_, _, header := query("1", last)
		require.Equal(t, "https://one.example", header.Get("Access-Control-Allow-Origin"))
	})
	t.Run("status/flags", func(t *testing.T) {
		_, a, _ := ask("/api/v1/status/flags", nil)
		flags := map[string]string{}
		require.NoError(t, json.Unmarshal(a.Data, &flags))
		for name, value := range map[string]string{
			"query.timeout": "1m30s", "query.max-samples": "1000", "query.max-memory": "64KiB", "query.max-concurrency": "20",
			"storage.remote.read-sample-limit": "10", "storage.remote.read-concurrent-limit": "3",
			"storage.remote.read-max-bytes-in-frame": "1B",
		} {
			require.Equal(t, value, flags[name], name)
		}
	})

	read := func(typ prompb.ReadRequest_ResponseType) *http.Response {
		t.Helper()
		raw, err := (&prompb.ReadRequest{AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ}, Queries: []*prompb.Query{{
			StartTimestampMs: last.Add(-time.Hour).UnixMilli(), EndTimestampMs: last.UnixMilli(),
			Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "short"}},
		}}}).Marshal()
		require.NoError(t, err)
		resp, err := http.Post(p.url+"/api/v1/read", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	t.Run("storage.remote.read-sample-limit", func(t *testing.T) {
		resp := read(prompb.ReadRequest_SAMPLES)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Contains(t, string(body), "exceeded sample limit (10)")
	})
	t.Run("storage.remote.read-max-bytes-in-frame", func(t *testing.T) {
		resp := read(prompb.ReadRequest_STREAMED_XOR_CHUNKS)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		frames, err := 0, error(nil)
		for stream := remote.NewChunkedReader(resp.Body, 1<<20, nil); err == nil; frames++ {
			var frame prompb.ChunkedReadResponse
			if err = stream.NextProto(&frame); err == nil {
				require.Len(t, frame.ChunkedSeries[0].Chunks, 1, "a chunk is the least that a frame holds")
			}
		}
		require.ErrorIs(t, err, io.EOF)
		require.Greater(t, frames, 2000/120)
	})

	// Debian's promtool is too old to have these checks; one named by PROMKEEP_TEST_PROMTOOL is run.
	for _, check := range []string{"healthy", "ready"} {
		t.Run("promtool check "+check, func(t *testing.T) {
			if promtool := os.Getenv("PROMKEEP_TEST_PROMTOOL"); promtool != "" {
				out, err := exec.Command(promtool, "check", check, "--url="+p.url).CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), "SUCCESS")
				return
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				req, err := http.NewRequest(method, p.url+"/-/"+check, nil)
				require.NoError(t, err)
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				if method == http.MethodGet {
					require.Equal(t, fmt.Sprintf("promkeep is %s.\n", check), string(body))
				}
			}
		})
	}
}
