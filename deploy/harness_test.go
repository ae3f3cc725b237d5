package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is promkeep, built once for all tests of the package.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "promkeep-deploy")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if binary = os.Getenv("PROMKEEP_BINARY"); binary == "" {
		binary = filepath.Join(dir, "promkeep")
		build := exec.Command("go", "build", "-o", binary, "../cmd/promkeep")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building promkeep: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startProgram runs a program until the test ends, and waits until base/-/ready answers 200. It is stopped with the signal.
func startProgram(t *testing.T, base string, stop syscall.Signal, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	log := &safeBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(stop)
		select {
		case <-exited:
		case <-time.After(time.Minute):
			cmd.Process.Kill()
			<-exited
			t.Errorf("%s did not stop", program)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", program, log)
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 2*time.Minute, 50*time.Millisecond, "%s does not get ready", program)
}

// promkeep starts one with an embedded PostgreSQL that flushes often, and returns its address.
func promkeep(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "promkeep-data")
	require.NoError(t, err)
	// Started by root, PostgreSQL runs as another user.
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	address := freeAddress(t)
	startProgram(t, "http://"+address, syscall.SIGTERM, binary, "serve", "--web.listen-address", address, "--data-dir", dir, "--storage.flush-interval", "2s")
	return address
}

// ask returns the data of an answer of the Prometheus API.
func ask(t *testing.T, address, path string, params url.Values) (json.RawMessage, error) {
	t.Helper()
	resp, err := http.Get("http://" + address + path + "?" + params.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var a struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(t, json.Unmarshal(body, &a), "%s", body)
	if a.Status != "success" {
		return nil, fmt.Errorf("%s", a.Error)
	}
	return a.Data, nil
}
