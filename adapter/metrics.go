package adapter

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promkeep/promkeep/storage"
)

// reason is why something of a request was refused.
type reason int

const (
	reasonMalformedSeries reason = iota
	reasonNoMetricName
	reasonEmptyLabelName
	reasonDuplicateLabel
	reasonInvalidUTF8
	reasonNulByte
	reasonTooManyLabels
	reasonLabelNameTooLong
	reasonLabelValueTooLong
	reasonInvalidTimestamp
	reasonTooOld
	reasonTooFarAhead
	reasonInvalidHistogram
	reasonInvalidExemplar
	reasonNoSamples
	reasonMixedSamples
	reasonSeriesLimit
	reasons
)

var reasonNames = [reasons]string{
	"malformed_series", "no_metric_name", "empty_label_name", "duplicate_label", "invalid_utf8", "nul_byte", "too_many_labels",
	"label_name_too_long", "label_value_too_long", "invalid_timestamp", "too_old", "too_far_ahead", "invalid_histogram",
	"invalid_exemplar", "no_samples", "mixed_samples", "series_limit",
}

// why is why a request was not answered with 204.
type why int

const (
	whyMethod why = iota
	whyProtocol
	whyTenant
	whyBodySize
	whyDecodedSize
	whyMemory
	whyInFlight
	whyBody
	whySnappy
	whyMalformed
	whySamples
	whyRate
	whyLimit
	whyUnavailable
	whyOverloaded
	whyInternal
	whys
)

var whyNames = [whys]string{
	"method", "protocol", "tenant", "body_size", "decoded_size", "memory", "in_flight", "body", "snappy", "malformed", "samples",
	"rate_limit", "limit", "unavailable", "overloaded", "internal",
}

// kind is what is written.
type kind int

const (
	floats kind = iota
	histograms
	exemplars
	kinds
)

type writeMetrics struct {
	requests *prometheus.CounterVec
	duration [protocols]prometheus.Observer
	received [protocols][kinds]prometheus.Counter
	refused  [reasons]prometheus.Counter
	failed   [whys]prometheus.Counter
	dropped  [2]prometheus.Counter // by relabelling; exemplars that the store does not keep

	codes sync.Map // of requests, by protocol and code, so that none is looked up by strings

	limits  *prometheus.CounterVec
	mu      sync.Mutex          // guards what follows
	tenants map[string]struct{} // that limits has a label for
}

const (
	droppedByRelabelling = iota
	droppedExemplars
)

func newWriteMetrics(reg prometheus.Registerer, inFlight *budget) *writeMetrics {
	auto := promauto.With(reg)
	m := &writeMetrics{
		requests: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "promkeep_remote_write_requests_total",
			Help: "Remote-write requests answered, by protocol version and status code.",
		}, []string{"protocol", "code"}),
	}
	duration := auto.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "promkeep_remote_write_request_duration_seconds",
		Help:                            "Time from the arrival of a remote-write request to its answer.",
		Buckets:                         []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"protocol"})
	received := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "promkeep_remote_write_received_samples_total",
		Help: "Samples and exemplars in well-formed remote-write requests, whatever became of them.",
	}, []string{"protocol", "type"})
	for p := range protocols {
		m.duration[p] = duration.WithLabelValues(p.String())
		for k, name := range [kinds]string{"float", "histogram", "exemplar"} {
			m.received[p][k] = received.WithLabelValues(p.String(), name)
		}
	}
	refused := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "promkeep_remote_write_rejected_samples_total",
		Help: "Samples and exemplars refused as invalid, which senders do not send again.",
	}, []string{"reason"})
	for r, name := range reasonNames {
		m.refused[r] = refused.WithLabelValues(name)
	}
	failed := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "promkeep_remote_write_rejected_requests_total",
		Help: "Remote-write requests not answered with 204: of all or some of their samples it was not said that they are stored.",
	}, []string{"reason"})
	for w, name := range whyNames {
		m.failed[w] = failed.WithLabelValues(name)
	}
	m.tenants = map[string]struct{}{}
	m.limits = auto.NewCounterVec(prometheus.CounterOpts{
		Name: "promkeep_remote_write_tenant_limited_requests_total",
		Help: "Remote-write requests that met a limit of their tenant. Of many tenants the last have the label " + storage.OtherTenants + ".",
	}, []string{"tenant", "limit"})
	for _, limit := range []string{"samples_per_second", "active_series"} {
		m.limits.WithLabelValues(storage.OtherTenants, limit) // so that there is a series before the first such request
	}
	dropped := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "promkeep_remote_write_dropped_samples_total",
		Help: "Samples and exemplars that were accepted, but are not kept.",
	}, []string{"reason"})
	m.dropped[droppedByRelabelling] = dropped.WithLabelValues("relabelling")
	m.dropped[droppedExemplars] = dropped.WithLabelValues("exemplars_not_kept")
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promkeep_remote_write_in_flight_bytes",
		Help: "Bytes that remote-write requests hold: bodies, decompressed bodies, symbol tables, and about what is made of them until it is committed.",
	}, func() float64 { return float64(inFlight.used.Load()) })
	auto.NewGauge(prometheus.GaugeOpts{
		Name: "promkeep_remote_write_in_flight_limit_bytes",
		Help: "What promkeep_remote_write_in_flight_bytes may reach before requests are answered with 503.",
	}).Set(float64(inFlight.limit))
	return m
}

func (m *writeMetrics) answered(p protocol, code int, took time.Duration) {
	id := [2]int{int(p), code}
	c, ok := m.codes.Load(id)
	if !ok {
		c, _ = m.codes.LoadOrStore(id, m.requests.WithLabelValues(p.String(), strconv.Itoa(code)))
	}
	c.(prometheus.Counter).Inc()
	m.duration[p].Observe(took.Seconds())
}

// limited counts a request that met a limit of its tenant.
func (m *writeMetrics) limited(tenant, limit string) {
	m.mu.Lock()
	if _, ok := m.tenants[tenant]; !ok {
		if len(m.tenants) < storage.MaxTenantLabels {
			m.tenants[tenant] = struct{}{}
		} else {
			tenant = storage.OtherTenants
		}
	}
	m.mu.Unlock()
	m.limits.WithLabelValues(tenant, limit).Inc()
}
