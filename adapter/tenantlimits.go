package adapter

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/promkeep/promkeep/storage"
)

// TenantLimits are those of one tenant. 0 is no limit.
type TenantLimits struct {
	SamplesPerSecond float64 // samples and exemplars taken, on average
	SamplesBurst     int64   // how many of them may come at once; 0 is what comes in ten seconds
	ActiveSeries     int     // series in memory, see storage.Batch.LimitSeries
}

// burst is the size of the bucket.
func (l TenantLimits) burst() float64 {
	if l.SamplesBurst > 0 {
		return float64(l.SamplesBurst)
	}
	return max(10*l.SamplesPerSecond, 1)
}

// SeriesLimiter is a Batch that can hold its tenant to a number of active series. Without it there is no such limit.
type SeriesLimiter interface {
	// LimitSeries lets Commit create series only while the tenant has fewer than max.
	LimitSeries(max int)
	// Refused returns, after Commit, the series that were not created. Their samples are not stored, all others are.
	Refused() []storage.Refused
}

// maxBuckets is about how many tenants rates keeps buckets of. A full bucket needs no keeping.
const maxBuckets = 10_000

// rates holds tenants to their samples per second, with a bucket of tokens for each. The zero value is ready. Safe for
// concurrent use.
type rates struct {
	mu      sync.Mutex // guards what follows
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64 // below zero after a request larger than the burst
	at     time.Time
	rate   float64
	burst  float64
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens += d * b.rate
		b.at = now
	}
	b.tokens = min(b.tokens, b.burst)
}

// take takes n tokens, if they are there. A request larger than the burst is taken when the bucket is full, or it never would
// be, and those after it wait the longer. If they are not, wait is when to come again. With n = 0 it only asks whether there
// is any token.
func (r *rates) take(tenant string, n int, l TenantLimits, now time.Time) (wait time.Duration, ok bool) {
	if l.SamplesPerSecond <= 0 {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[tenant]
	if b == nil {
		r.makeRoom(now)
		b = &bucket{tokens: l.burst(), burst: l.burst(), at: now}
		r.buckets[tenant] = b
	}
	b.fill(now)
	b.rate, b.burst = l.SamplesPerSecond, l.burst() // as they are by now
	b.tokens = min(b.tokens, b.burst)
	need := min(max(float64(n), 1), b.burst)
	if b.tokens < need {
		return time.Duration((need - b.tokens) / b.rate * float64(time.Second)), false
	}
	b.tokens -= float64(n)
	return 0, true
}

// give gives tokens back that were taken for nothing.
func (r *rates) give(tenant string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.buckets[tenant]; b != nil {
		b.tokens = min(b.tokens+float64(n), b.burst)
	}
}

func (r *rates) makeRoom(now time.Time) {
	if r.buckets == nil {
		r.buckets = map[string]*bucket{}
	}
	if len(r.buckets) < maxBuckets {
		return
	}
	for tenant, b := range r.buckets {
		if b.fill(now); b.tokens >= b.burst {
			delete(r.buckets, tenant)
		}
	}
}

// tenantName is the tenant as people and limits know it.
func tenantName(tenant string) string {
	if tenant == "" {
		return storage.DefaultTenant
	}
	return tenant
}

// limits returns those of a tenant.
func (h *WriteHandler) limits(tenant string) TenantLimits {
	if h.opts.TenantLimits == nil {
		return TenantLimits{}
	}
	return h.opts.TenantLimits(tenantName(tenant))
}

// takeRate lets n samples pass, or says why not.
func (h *WriteHandler) takeRate(tenant string, n int, l TenantLimits) *failure {
	wait, ok := h.rates.take(tenant, n, l, h.opts.Now())
	if ok {
		return nil
	}
	h.metrics.limited(tenantName(tenant), "samples_per_second")
	return &failure{
		code: http.StatusTooManyRequests, why: whyRate, after: max(wait, time.Second),
		text: fmt.Sprintf("the tenant %q sends more than its limit samples_per_second: %g (samples_burst: %.0f); nothing of the request was stored",
			tenantName(tenant), l.SamplesPerSecond, l.burst()),
	}
}

// refuseSeries counts the series that the limit of active ones kept out.
func (h *WriteHandler) refuseSeries(rq *request, tenant string, l TenantLimits) {
	b, ok := rq.batch.(SeriesLimiter)
	if !ok {
		return
	}
	all := b.Refused()
	if len(all) == 0 {
		return
	}
	h.metrics.limited(tenantName(tenant), "active_series")
	for _, r := range all {
		rq.written[floats] -= r.Floats
		rq.written[histograms] -= r.Histograms
		rq.written[exemplars] -= r.Exemplars
		rq.refused[reasonSeriesLimit] += r.Floats + r.Histograms + r.Exemplars
		if rq.problem++; rq.problem <= shownProblems {
			rq.problems = append(rq.problems, fmt.Sprintf("%s: the tenant %q has as many series as its limit active_series: %d",
				clip(r.Labels.String(), shownBytes), tenantName(tenant), l.ActiveSeries))
		}
	}
}
