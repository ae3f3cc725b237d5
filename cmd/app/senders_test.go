package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// TestSendersAsTheyAre: whatever is left out, spelt in another way, or older than it should be, samples arrive.
func TestSendersAsTheyAre(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t)).ready(t)
	address := strings.TrimPrefix(p.url, "http://")
	now := time.Now().UnixMilli()
	n := 0
	body := func() []byte {
		n++
		return encode(t, timeSeries([]prompb.Sample{{Timestamp: now, Value: 1}}, "__name__", "sent", "n", fmt.Sprint(n)))
	}
	raw := func(name, head string, body []byte, chunked bool) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		if chunked {
			fmt.Fprint(conn, head, "transfer-ENCODING: Chunked\r\n\r\n")
			for len(body) > 0 {
				k := min(7, len(body))
				fmt.Fprintf(conn, "%x\r\n%s\r\n", k, body[:k])
				body = body[k:]
			}
			fmt.Fprint(conn, "0\r\n\r\n")
		} else {
			fmt.Fprintf(conn, "%scontent-length: %d\r\n\r\n%s", head, len(body), body)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, name)
		defer resp.Body.Close()
		require.Equal(t, http.StatusNoContent, resp.StatusCode, name)
	}
	for _, path := range []string{"/api/v1/write", "/api/v1/push", "/write"} {
		raw("no headers at all "+path, "POST "+path+" HTTP/1.1\r\nHost: x\r\n", body(), false)
		raw("HTTP/1.0, so no keep-alive "+path, "POST "+path+" HTTP/1.0\r\n", body(), false)
		raw("not kept alive "+path, "POST "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n", body(), false)
		raw("odd capitals "+path, "POST "+path+" HTTP/1.1\r\nhOST: x\r\ncontent-TYPE: Application/X-Protobuf\r\nCONTENT-ENCODING: Snappy\r\nx-prometheus-REMOTE-write-VERSION: 0.1.0\r\n", body(), false)
		raw("a version that is none "+path, "POST "+path+" HTTP/1.1\r\nHost: x\r\nX-Prometheus-Remote-Write-Version: latest\r\n", body(), false)
		raw("in chunks "+path, "POST "+path+" HTTP/1.1\r\nHost: x\r\n", body(), true)
		raw("no answer compressed, please "+path, "POST "+path+" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\n", body(), false)
	}
	require.Len(t, matrix(t, p.url, `sent[1m]`, time.UnixMilli(now+1000)), n)

	// Labels in any order, of which those without a value are none.
	for i, labels := range [][]string{
		{"__name__", "sorted", "a", "1", "b", "2"}, {"b", "2", "a", "1", "__name__", "sorted"}, {"a", "1", "__name__", "sorted", "c", "", "b", "2"},
	} {
		code, text, err := p.write(context.Background(), timeSeries([]prompb.Sample{{Timestamp: now + int64(i), Value: float64(i)}}, labels...))
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, code, text)
	}
	got := matrix(t, p.url, `sorted[1m]`, time.UnixMilli(now+1000))
	require.Len(t, got, 1)
	for labels, samples := range got {
		require.JSONEq(t, `{"__name__":"sorted","a":"1","b":"2"}`, labels)
		require.Len(t, samples, 3)
	}
}

// TestSamplesOfAnyTime: late ones, in any order, down to the retention, and early ones up to --storage.max-future.
func TestSamplesOfAnyTime(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t), "--storage.retention.time", "10d", "--storage.max-future", "2h").ready(t)
	now := time.Now()
	send := func(at time.Duration) (int, string) {
		code, text, err := p.write(context.Background(), timeSeries([]prompb.Sample{{Timestamp: now.Add(at).UnixMilli(), Value: at.Hours()}}, "__name__", "any"))
		require.NoError(t, err)
		return code, text
	}
	const day = 24 * time.Hour
	good := []time.Duration{0, -5 * day, -time.Minute, -10*day + time.Hour, -time.Hour, -9 * day, 119 * time.Minute, -8*day - time.Second, 0}
	for _, at := range good {
		code, text := send(at)
		require.Equal(t, http.StatusNoContent, code, "%v: %s", at, text)
	}
	for at, says := range map[time.Duration]string{
		-10*day - time.Minute: "before the retention limit", -1000 * day: "before the retention limit",
		121*time.Minute + time.Second: "too far in the future", 1000 * day: "too far in the future",
	} {
		code, text := send(at)
		require.Equal(t, http.StatusBadRequest, code, "%v: %s", at, text)
		require.Contains(t, text, says)
		require.Contains(t, text, `{__name__="any"}`)
	}
	stored := matrix(t, p.url, `any[11d]`, now.Add(3*time.Hour))
	require.Len(t, stored, 1)
	for _, samples := range stored {
		require.Len(t, samples, len(good)-1, "one of them came twice")
		for i, s := range samples {
			require.InDelta(t, time.UnixMilli(s.Timestamp).Sub(now).Hours(), s.Value, 0.001)
			require.True(t, i == 0 || s.Timestamp > samples[i-1].Timestamp)
		}
	}
}

// TestHTTP2Senders over TLS, many requests at once on one connection.
func TestHTTP2Senders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return path
	}
	config := filepath.Join(dir, "web.yml")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key_file: %s\n",
		file("cert.pem", "CERTIFICATE", der), file("key.pem", "PRIVATE KEY", raw))), 0o600))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()

	p := start(t, freePort(t), nil, "--data-dir", dataDir(t), "--web.config.file", config)
	base := strings.Replace(p.url, "http://", "https://", 1)
	require.Eventually(t, func() bool {
		resp, err := client.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 2*time.Minute, 50*time.Millisecond)
	const requests = 40
	answers := make(chan error, requests)
	for i := range requests {
		body := encode(t, timeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}, "__name__", "sent", "n", fmt.Sprint(i)))
		go func() {
			resp, err := client.Post(base+"/api/v1/write", "application/x-protobuf", bytes.NewReader(body))
			if err == nil {
				resp.Body.Close()
				if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusNoContent {
					err = fmt.Errorf("%s: %s", resp.Proto, resp.Status)
				}
			}
			answers <- err
		}()
	}
	for range requests {
		require.NoError(t, <-answers)
	}
	resp, err := client.Get(base + "/api/v1/query?query=count(sent)")
	require.NoError(t, err)
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(t, err)
	require.Contains(t, b.String(), `"40"]`)
}
