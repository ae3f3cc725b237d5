package adapter

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/adapter/wire"
	"github.com/promkeep/promkeep/storage/catalogue"
)

// Limits of what a request may hold. They are generous: a sender that meets one is broken or hostile.
type Limits struct {
	BodyBytes    int64 // of a request as sent, compressed; 32 MiB
	DecodedBytes int64 // of a request when decompressed; 64 MiB
	// InFlightBytes bounds the memory of all requests together: bodies, decompressed bodies, symbol tables, and what is made of
	// them until it is committed; 256 MiB.
	InFlightBytes int64

	Labels          int // of a series; 128, at most wire.MaxLabels
	LabelNameBytes  int // 512, which is also the most: a name and a value together must fit into an index entry of PostgreSQL
	LabelValueBytes int // 2,048, which is also the most, for the same reason
	// ExemplarRunes bounds the names and values of the labels of an exemplar together; 128, as in OpenMetrics.
	ExemplarRunes int
}

// maxLabelName is the longest label name in bytes.
const maxLabelName = 512

func (l *Limits) setDefaults() {
	setDefault(&l.BodyBytes, 32<<20)
	setDefault(&l.DecodedBytes, 64<<20)
	setDefault(&l.InFlightBytes, 256<<20)
	setDefault(&l.Labels, 128)
	setDefault(&l.LabelNameBytes, maxLabelName)
	setDefault(&l.LabelValueBytes, 2048)
	setDefault(&l.ExemplarRunes, 128)
	l.Labels = min(l.Labels, wire.MaxLabels)
	l.LabelNameBytes = min(l.LabelNameBytes, maxLabelName)
	l.LabelValueBytes = min(l.LabelValueBytes, catalogue.MaxLabelValue)
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Options of a WriteHandler. Zero values mean the defaults that are noted.
type Options struct {
	Limits Limits
	// MaxFuture is how far ahead of the clock a sample may be; 10 min. Negative is no bound.
	MaxFuture time.Duration
	// ReadTimeout is how long a sender may take to send the body; 30 s.
	ReadTimeout time.Duration
	// Tenancy tells whose a request is. Without it there is one tenant.
	Tenancy *tenancy.Policy
	// TenantLimits returns the limits of a tenant, by name. It is called for each request. If nil there are none.
	TenantLimits func(tenant string) TenantLimits
	// Relabel changes or drops series before anything else looks at their labels.
	Relabel []*relabel.Config

	Logger     *slog.Logger          // what is refused is logged at level debug
	Registerer prometheus.Registerer // for the metrics promkeep_remote_write_*
	Now        func() time.Time      // time.Now if nil
}

func (o *Options) setDefaults() {
	o.Limits.setDefaults()
	setDefault(&o.MaxFuture, 10*time.Minute)
	setDefault(&o.ReadTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}
