package promql

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	upstream "github.com/prometheus/prometheus/promql"
)

// Limiter lets a number of requests run at once and a number of others wait.
type Limiter struct {
	what     string
	running  chan struct{}
	admitted chan struct{}

	rejected prometheus.Counter
}

// NewLimiter allows concurrent requests to run and queued more to wait. The name what ("queries") appears in errors and in
// the metrics; reg may be nil.
func NewLimiter(what string, concurrent, queued int, reg prometheus.Registerer) *Limiter {
	l := &Limiter{
		what:     what,
		running:  make(chan struct{}, max(concurrent, 1)),
		admitted: make(chan struct{}, max(concurrent, 1)+max(queued, 0)),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "promkeep_read_rejected_total",
			Help:        "Requests refused with 503 because too many others were running and waiting.",
			ConstLabels: prometheus.Labels{"kind": what},
		}),
	}
	if reg != nil {
		reg.MustRegister(
			l.rejected,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name:        "promkeep_read_running",
				Help:        "Requests being answered.",
				ConstLabels: prometheus.Labels{"kind": what},
			}, func() float64 { return float64(len(l.running)) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name:        "promkeep_read_waiting",
				Help:        "Requests waiting for their turn.",
				ConstLabels: prometheus.Labels{"kind": what},
			}, func() float64 { return float64(max(len(l.admitted)-len(l.running), 0)) }),
		)
	}
	return l
}

// Acquire waits for a turn. It fails with an error of errorType unavailable when the queue is full, and as the engine does
// when ctx ends first. After a nil error Release must be called once.
func (l *Limiter) Acquire(ctx context.Context) error {
	select {
	case l.admitted <- struct{}{}:
	default:
		l.rejected.Inc()
		return &storageError{
			err: fmt.Errorf("too many %s: %d running and %d waiting, try again later",
				l.what, cap(l.running), cap(l.admitted)-cap(l.running)),
			unavailable: true,
		}
	}
	select {
	case l.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-l.admitted
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return upstream.ErrQueryTimeout("the queue")
		}
		return upstream.ErrQueryCanceled("the queue")
	}
}

// Release gives the turn back.
func (l *Limiter) Release() {
	<-l.running
	<-l.admitted
}
