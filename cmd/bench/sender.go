package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Sender sends a load to a remote-write endpoint.
type Sender struct {
	URL         string
	Load        Load
	Protocol    Protocol
	Batch       int // samples of a request
	Concurrency int
	Tenants     int     // more than one: requests go to as many tenants, named in X-Scope-OrgID
	Speed       float64 // data time in real time; 0 is as fast as possible

	// Every is how many steps are sent between two calls of Mark, which runs while the next are being sent, but one at a
	// time. 0 is never.
	Every int
	Mark  func(ctx context.Context, step int) error

	values  *Values
	clock   *Clock
	batches []*batch
	client  *http.Client

	sent, rejected, retried atomic.Int64 // samples, samples, requests
	done                    atomic.Int64 // samples, rejected or not
	latency                 latencies
	rejection               atomic.Pointer[string] // the first
}

// batch is the requests for some neighbouring series.
type batch struct {
	from, to int // series
	tenant   string
	request  *request
	version  uint64 // of the labels
	target   []int32
}

// Report is what came of sending.
type Report struct {
	Sent, Rejected, Retried int64 // samples, samples, requests
	Took                    time.Duration
	P50, P99, Max           time.Duration // of one attempt of a request that was answered
	OwnCPU                  time.Duration
	Rejection               string // the first answer that was a rejection
}

// Rate is samples accepted in a second.
func (r Report) Rate() float64 { return float64(r.Sent) / r.Took.Seconds() }

// unreachable is how long a server that does not answer is tried.
const unreachable = time.Minute

// Prepare makes all requests and values.
func (s *Sender) Prepare() error {
	if era(s.Load.Start) != era(s.Load.End()) {
		return errors.New("the load crosses a multiple of 2^35 ms; let it begin at another time")
	}
	if s.values == nil {
		s.values = s.Load.Values()
	}
	s.clock = s.Load.Clock()
	s.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: s.Concurrency, DisableCompression: true, WriteBufferSize: 64 << 10,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
	s.batches = nil
	for from := 0; from < s.Load.Series; from += s.Batch {
		b := &batch{from: from, to: min(from+s.Batch, s.Load.Series)}
		if s.Tenants > 1 {
			b.tenant = fmt.Sprintf("tenant-%d", len(s.batches)%s.Tenants)
		}
		s.batches = append(s.batches, b)
	}
	errs := make([]error, s.Concurrency)
	var group sync.WaitGroup
	for w := range s.Concurrency {
		group.Go(func() {
			for i := w; i < len(s.batches) && errs[w] == nil; i += s.Concurrency {
				errs[w] = s.label(s.batches[i], 0)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// label prepares the request of a batch for a step, if its labels are not as they were.
func (s *Sender) label(b *batch, step int) error {
	var version uint64
	if s.Load.Churn > 0 {
		for i := b.from; i < b.to; i++ {
			version = mix(version, uint64(s.Load.generation(i, step)))
		}
	}
	if b.request != nil && b.version == version {
		return nil
	}
	all := make([]labels.Labels, 0, b.to-b.from)
	b.target = b.target[:0]
	for i := b.from; i < b.to; i++ {
		all = append(all, s.Load.Labels(i, step))
		b.target = append(b.target, int32(s.Load.target(i)))
	}
	r, err := newRequest(s.Protocol, all, era(s.Load.Start))
	b.request, b.version = r, version
	return err
}

// Run sends all samples, and returns early only when ctx ends, a Mark fails, or nobody listens.
func (s *Sender) Run(ctx context.Context) (Report, error) {
	began, own := time.Now(), ownCPU()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var marks sync.WaitGroup
	every := s.Every
	if every <= 0 {
		every = s.Load.Steps
	}
	for from := 0; from < s.Load.Steps && ctx.Err() == nil; from += every {
		to := min(from+every, s.Load.Steps)
		var group sync.WaitGroup
		for w := range s.Concurrency {
			group.Go(func() {
				if err := s.work(ctx, w, from, to, began); err != nil {
					cancel(err)
				}
			})
		}
		group.Wait()
		if s.Mark != nil && ctx.Err() == nil && to < s.Load.Steps {
			marks.Wait()
			marks.Go(func() {
				if err := s.Mark(ctx, to); err != nil {
					cancel(err)
				}
			})
		}
	}
	took := time.Since(began)
	marks.Wait()
	r := Report{
		Sent: s.sent.Load(), Rejected: s.rejected.Load(), Retried: s.retried.Load(), Took: took,
		P50: s.latency.quantile(0.5), P99: s.latency.quantile(0.99), Max: time.Duration(s.latency.max.Load()),
		OwnCPU: ownCPU() - own,
	}
	if why := s.rejection.Load(); why != nil {
		r.Rejection = *why
	}
	return r, context.Cause(ctx)
}

func (s *Sender) work(ctx context.Context, worker, from, to int, began time.Time) error {
	for step := from; step < to; step++ {
		for i := worker; i < len(s.batches); i += s.Concurrency {
			b := s.batches[i]
			if s.Speed > 0 {
				at := (float64(step) + float64(i)/float64(len(s.batches))) * float64(s.Load.Interval) / s.Speed
				if err := sleep(ctx, time.Until(began.Add(time.Duration(at)))); err != nil {
					return err
				}
			}
			if err := s.label(b, step); err != nil {
				return err
			}
			for j, t := range b.target {
				b.request.Set(j, s.clock.At(int(t), step), s.values.At(b.from+j, step))
			}
			if err := s.send(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends a request until it is accepted or rejected.
func (s *Sender) send(ctx context.Context, b *batch) error {
	n := int64(b.to - b.from)
	backoff := 50 * time.Millisecond
	began := time.Now()
	for {
		status, after, text, err := s.post(ctx, b)
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if time.Since(began) > unreachable {
				return err
			}
			s.retried.Add(1)
			if err := sleep(ctx, backoff); err != nil {
				return err
			}
			backoff = min(2*backoff, 5*time.Second)
		case status/100 == 2:
			s.sent.Add(n)
			s.done.Add(n)
			return nil
		case status == http.StatusTooManyRequests || status/100 == 5:
			s.retried.Add(1)
			if after <= 0 {
				after = backoff
				backoff = min(2*backoff, 5*time.Second)
			}
			if err := sleep(ctx, after); err != nil {
				return err
			}
		default:
			why := fmt.Sprintf("%d: %s", status, text)
			s.rejection.CompareAndSwap(nil, &why)
			s.rejected.Add(n)
			s.done.Add(n)
			return nil
		}
	}
}

func (s *Sender) post(ctx context.Context, b *batch) (status int, after time.Duration, text string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(b.request.Body))
	if err != nil {
		return 0, 0, "", err
	}
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("User-Agent", "promkeep-bench")
	if s.Protocol == V2 {
		r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		r.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		r.Header.Set("Content-Type", "application/x-protobuf")
		r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	if b.tenant != "" {
		r.Header.Set("X-Scope-OrgID", b.tenant)
	}
	began := time.Now()
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	s.latency.add(time.Since(began))
	if err != nil {
		return 0, 0, "", err
	}
	return resp.StatusCode, retryAfter(resp.Header.Get("Retry-After")), string(bytes.TrimSpace(body)), nil
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return time.Until(t)
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
