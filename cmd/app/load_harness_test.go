package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

const (
	loadSenders = 8
	loadSeries  = 500                    // of each sender
	loadPause   = 100 * time.Millisecond // between two requests of a sender
)

// load is a number of senders that behave as Prometheus does: each sends the next request only when the one before it is
// acknowledged, and sends that again after 503 or a broken connection. Each request has one sample of each series of its sender, all of a
// time and a value of their own.
type load struct {
	t     testing.TB
	p     *process
	begin int64 // ms, of the first samples

	acked   atomic.Int64 // requests
	refused atomic.Int64 // 503
	broken  atomic.Int64 // no answer
	rounds  [loadSenders]int64

	stopping chan struct{} // closed: what is being sent is the last
	abandon  context.CancelFunc
	ctx      context.Context // ends when a test has failed
	done     sync.WaitGroup
}

func startLoad(t testing.TB, p *process) *load {
	l := &load{t: t, p: p, begin: time.Now().Add(-40 * time.Minute).UnixMilli(), stopping: make(chan struct{})}
	l.ctx, l.abandon = context.WithCancel(context.Background())
	for s := range loadSenders {
		l.done.Add(1)
		go l.send(s)
	}
	return l
}

func (l *load) send(sender int) {
	defer l.done.Done()
	series := make([]prompb.TimeSeries, loadSeries)
	for i := range series {
		series[i] = timeSeries(make([]prompb.Sample, 1), "__name__", "load_total", "i", fmt.Sprint(i), "sender", fmt.Sprint(sender))
	}
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for round := int64(0); ; round++ {
		select {
		case <-l.stopping:
			return
		case <-tick.C:
		}
		for i := range series {
			series[i].Samples[0] = prompb.Sample{Timestamp: l.begin + round*100, Value: float64(round)}
		}
		for {
			ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
			code, body, err := l.p.write(ctx, series...)
			cancel()
			if err == nil && code == http.StatusNoContent {
				break
			}
			switch {
			case l.ctx.Err() != nil:
				return
			case err != nil:
				l.broken.Add(1)
			case code == http.StatusServiceUnavailable:
				l.refused.Add(1)
			default:
				l.t.Errorf("a sender was answered %d, after which it drops its samples: %s", code, body)
			}
			time.Sleep(loadPause)
		}
		l.acked.Add(1)
		l.rounds[sender] = round + 1
	}
}

// stop ends the senders when what they send is acknowledged.
func (l *load) stop() {
	l.t.Helper()
	close(l.stopping)
	acknowledged := make(chan struct{})
	go func() {
		l.done.Wait()
		close(acknowledged)
	}()
	select {
	case <-acknowledged:
	case <-time.After(2 * time.Minute):
		l.t.Fatal("two minutes after the senders were told to stop, what they send is not acknowledged")
	}
}

// check asks for all samples: each that was acknowledged is there, with its value, once.
func (l *load) check(p *process) {
	l.t.Helper()
	end := time.UnixMilli(l.begin).Add(2 * time.Hour)
	ask := func(query string) map[string]float64 {
		resp, err := http.Get(p.url + "/api/v1/query?" + url.Values{"query": {query}, "time": {seconds(end)}}.Encode())
		require.NoError(l.t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(l.t, err)
		require.Equal(l.t, 200, resp.StatusCode, "%s: %s", query, body)
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		require.NoError(l.t, json.Unmarshal(body, &answer))
		out := map[string]float64{}
		for _, r := range answer.Data.Result {
			out[r.Metric["sender"]], err = strconv.ParseFloat(r.Value[1].(string), 64)
			require.NoError(l.t, err)
		}
		return out
	}
	samples, sums := map[string]float64{}, map[string]float64{}
	for s, n := range l.rounds {
		samples[fmt.Sprint(s)] = float64(n)
		sums[fmt.Sprint(s)] = float64(n * (n - 1) / 2)
	}
	for of, want := range map[string]map[string]float64{"count": samples, "sum": sums} {
		for _, op := range []string{"min", "max"} { // of the series of a sender, which all have the same samples
			require.Equal(l.t, want, ask(fmt.Sprintf("%s by (sender) (%s_over_time(load_total[2h1m]))", op, of)), "%s of %s", op, of)
		}
	}
	for sender, n := range ask("count by (sender) (count_over_time(load_total[2h1m]))") {
		require.EqualValues(l.t, loadSeries, n, sender)
	}
}

// memory is what a process itself holds of the machine's memory, in bytes: its resident anonymous pages. The resident pages of its file,
// some 35 to 60 MiB here, come in as code is first run and belong to the kernel's cache.
func memory(t testing.TB, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	t.Fatalf("the process %d has no memory any more", pid)
	return 0
}

// watch samples the memory of the process for a while, and returns the most in each of n parts of it.
func watch(t testing.TB, p *process, d time.Duration, n int) []int64 {
	t.Helper()
	most := make([]int64, n)
	began := time.Now()
	for {
		passed := time.Since(began)
		if passed >= d {
			return most
		}
		part := int(int64(passed) * int64(n) / int64(d))
		most[part] = max(most[part], memory(t, p.cmd.Process.Pid))
		time.Sleep(50 * time.Millisecond)
	}
}

// rate returns how many requests per second were acknowledged during d.
func (l *load) rate(d time.Duration) float64 {
	began, acked := time.Now(), l.acked.Load()
	time.Sleep(d)
	return float64(l.acked.Load()-acked) / time.Since(began).Seconds()
}

// recovery returns after how long four fifths of the requests per second of before were reached again.
func (l *load) recovery(before float64) time.Duration {
	l.t.Helper()
	began := time.Now()
	for time.Since(began) < 2*time.Minute {
		at := time.Since(began)
		if l.rate(time.Second) >= 0.8*before {
			return at
		}
	}
	l.t.Fatalf("two minutes after the fault the senders have not come back to %.0f requests/s", before)
	return 0
}

// proxy is a way to a PostgreSQL server, on a Unix socket, that can be made slow or be held up.
type proxy struct {
	dir   string
	delay atomic.Int64 // ns, of what goes to the server

	mu   sync.Mutex
	held chan struct{} // closed unless everything is held up
}

func newProxy(t testing.TB, uri string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(uri)
	require.NoError(t, err)
	query := u.Query()
	target := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	dir, err := os.MkdirTemp("", "promkeep-proxy")
	require.NoError(t, err)
	p := &proxy{dir: dir, held: make(chan struct{})}
	close(p.held)
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	t.Cleanup(func() {
		listener.Close()
		os.RemoveAll(dir)
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("unix", target)
				if err != nil {
					return
				}
				defer server.Close()
				go func() {
					defer client.Close()
					io.Copy(client, server) //nolint:errcheck
				}()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if n > 0 {
						time.Sleep(time.Duration(p.delay.Load()))
						p.mu.Lock()
						held := p.held
						p.mu.Unlock()
						<-held
						if _, err := server.Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	return p, u.String()
}

// hold stops everything on its way to the server, until release.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.held)
}
