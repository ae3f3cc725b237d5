package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// fails runs promkeep, which must end with an error, and returns what it said.
func fails(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s", out)
	require.NoError(t, ctx.Err(), "it did not end: %s", out)
	return string(out)
}

func TestClearErrorsAtTheStart(t *testing.T) {
	t.Parallel()
	t.Run("the port is taken", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		dir := dataDir(t)
		out := fails(t, nil, "serve", "--web.listen-address", l.Addr().String(), "--data-dir", dir)
		require.Contains(t, out, "cannot listen on "+l.Addr().String())
		require.Contains(t, out, "--web.listen-address")
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, "a database was made for nothing")
	})
	t.Run("another promkeep holds the data directory", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		p := start(t, freePort(t), nil, "--data-dir", dir).ready(t)
		out := fails(t, nil, "serve", "--web.listen-address", "127.0.0.1:0", "--data-dir", dir)
		require.Contains(t, out, fmt.Sprint(p.cmd.Process.Pid), "the one that holds it is named")
	})
	t.Run("no PostgreSQL server", func(t *testing.T) {
		t.Parallel()
		out := fails(t, nil, "serve", "--web.listen-address", "127.0.0.1:0", "--data-dir", dataDir(t), "--postgres.bin-dir", t.TempDir())
		require.Contains(t, out, "no usable PostgreSQL server found")
		require.Contains(t, out, "is the server package installed?")
	})
	t.Run("a URI that is none", func(t *testing.T) {
		t.Parallel()
		out := fails(t, []string{"PROMKEEP_DB_URI=not a uri with s3cret"}, "migrate")
		require.Contains(t, out, "PROMKEEP_DB_URI")
		require.NotContains(t, out, "s3cret")
	})
	t.Run("a database that does not answer", func(t *testing.T) {
		t.Parallel()
		out := fails(t, nil, "migrate", "--wait", "1s", "--db.uri", "postgres://me:s3cret@127.0.0.1:1/db")
		require.Contains(t, out, "cannot be reached; trying again")
		require.NotContains(t, out, "s3cret")
	})
	t.Run("a flag that is none", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, fails(t, nil, "serve", "--nonsense"), "--help")
	})
}

// TestReadyOnlyWhenReplayed: until the database is there and the log replayed, /-/ready and the API are 503, and the
// process is healthy.
func TestReadyOnlyWhenReplayed(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), []string{"PROMKEEP_DB_URI=postgres://nobody@127.0.0.1:1/none"})
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/-/healthy")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
	for _, path := range []string{"/-/ready", "/api/v1/query?query=1", "/api/v1/write"} {
		resp, err := http.Get(p.url + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, path)
		require.NotEmpty(t, resp.Header.Get("Retry-After"), path)
		require.Contains(t, string(body), "is starting", path)
		if strings.HasPrefix(path, "/api/v1/") {
			var a answer
			require.NoError(t, json.Unmarshal(body, &a), "%s", body)
			require.Equal(t, "error", a.Status)
			require.Equal(t, "unavailable", a.ErrorType)
		}
	}
	began := time.Now()
	p.stop(t)
	require.Less(t, time.Since(began), 30*time.Second, "it stops while it waits")
}

// TestAnExternalDatabase is used by URI, environment and file; a second promkeep stands by and takes over.
func TestAnExternalDatabase(t *testing.T) {
	t.Parallel()
	// The embedded server of one promkeep is the external one of the others.
	host := start(t, freePort(t), nil, "--data-dir", dataDir(t)).ready(t)
	_, after, ok := strings.Cut(host.log.String(), `database="`)
	require.True(t, ok)
	shown, _, _ := strings.Cut(after, `"`)
	other := strings.Replace(shown, "/promkeep?", "/other?", 1)
	u, err := url.Parse(other)
	require.NoError(t, err)
	socket := u.Query().Get("host")
	psql := exec.Command("psql", "-h", socket, "-U", "promkeep", "-d", "promkeep", "-c", "SELECT 1")
	out, err := psql.CombinedOutput()
	require.NoError(t, err, "%s", out)

	file := filepath.Join(t.TempDir(), "uri")
	super := exec.Command("psql", "-h", socket, "-U", "postgres", "-d", "postgres", "-c", "CREATE DATABASE other OWNER promkeep")
	out, err = super.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(file, []byte(other+"\n"), 0o600))

	migrate := exec.Command(binary, "migrate", "--db.uri-file", file)
	out, err = migrate.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "layout")

	first := start(t, freePort(t), []string{"PROMKEEP_DB_URI=" + other}).ready(t)
	status, body, err := first.write(context.Background(), timeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 42}}, "__name__", "kept"))
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, status, body)
	second := start(t, freePort(t), nil, "--db.uri", other)
	require.Eventually(t, func() bool { return strings.Contains(second.log.String(), "standing by") }, time.Minute, 20*time.Millisecond)
	first.stop(t)
	second.ready(t)
	require.Len(t, matrix(t, second.url, `kept[1h]`, time.Now()), 1)
}

// TestBadWritesAreNamed over HTTP: the good part of a request is kept, the bad one named, with the status that senders expect.
func TestBadWritesAreNamed(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t), "--write.max-decoded-size", "1MiB").ready(t)
	now := time.Now().UnixMilli()
	one := []prompb.Sample{{Timestamp: now, Value: 1}}
	bad := map[string]struct {
		series prompb.TimeSeries
		says   string
	}{
		"duplicate label":  {timeSeries(one, "__name__", "bad", "a", "1", "a", "2"), `"a"`},
		"empty label name": {timeSeries(one, "__name__", "bad", "", "1"), "name"},
		"no metric name":   {timeSeries(one, "job", "bad"), "metric name"},
		"invalid UTF-8":    {timeSeries(one, "__name__", "bad", "a", "\xff\xfe"), "UTF-8"},
		"from the future":  {timeSeries([]prompb.Sample{{Timestamp: now + 3600_000, Value: 1}}, "__name__", "bad"), "future"},
		"absurd timestamp": {timeSeries([]prompb.Sample{{Timestamp: -1 << 62, Value: 1}}, "__name__", "bad"), "timestamp"},
	}
	n := 0
	for name, c := range bad {
		n++
		good := timeSeries(one, "__name__", "good", "n", fmt.Sprint(n))
		status, body, err := p.write(context.Background(), good, c.series)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status, "%s: %s", name, body)
		require.Contains(t, body, c.says, name)
		require.Contains(t, body, "bad", "%s: the series is named", name)
	}
	require.Len(t, matrix(t, p.url, `good[1h]`, time.Now()), n, "the good part of each request is kept")
	require.Empty(t, matrix(t, p.url, `bad[1h]`, time.Now().Add(30*time.Minute)))

	post := func(body []byte, header ...string) (int, string) {
		r, err := http.NewRequest(http.MethodPost, p.url+"/api/v1/write", bytes.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-protobuf")
		r.Header.Set("Content-Encoding", "snappy")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	status, body := post([]byte("this is not snappy"))
	require.Equal(t, http.StatusBadRequest, status, body)
	status, body = post([]byte{3, 8, 0xff, 0xff, 0xff})
	require.Equal(t, http.StatusBadRequest, status, body)
	status, body = post([]byte{0x80, 0x80, 0x80, 0x80, 0x08, 0})
	require.Equal(t, http.StatusRequestEntityTooLarge, status, "a length past the limit: %s", body)
	status, body = post(nil, "Content-Type", "text/plain")
	require.Equal(t, http.StatusUnsupportedMediaType, status, body)
	status, body = post(nil, "Content-Encoding", "gzip")
	require.Equal(t, http.StatusUnsupportedMediaType, status, body)
}
