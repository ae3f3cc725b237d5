package adapter

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/promkeep/promkeep/adapter/wire"
	"github.com/promkeep/promkeep/storage"
)

// Store takes batches of samples. It must be safe for concurrent use.
//
// An error of a Store or a Batch is asked for its behaviour, through errors.As:
//
//   - RetryAfter() time.Duration: a passing fault. The sender gets 503 and when to come again.
//   - LimitExceeded() string: a limit of the tenant, by name and value. The sender gets 429 if there is a RetryAfter
//     too, and 400 otherwise.
//
// Any other error is a 500, after which senders try again as well.
type Store interface {
	// NewBatch begins a batch for a tenant; "" is the default tenant.
	NewBatch(ctx context.Context, tenant string) (Batch, error)
	// MinTime is the oldest time, in ms, of which samples are taken.
	MinTime() int64
}

// Batch collects the samples of one request. Known or New position it on a series; what is added goes there. It is not used
// concurrently, and the request's body is in memory before it begins.
type Batch interface {
	// Known positions the batch on the series with the key, if it was seen before.
	Known(key wire.Key) bool
	// New positions the batch on a series that may have to be created at Commit. The labels are valid and sorted.
	New(key wire.Key, lset labels.Labels)
	// Float adds a sample. t is in ms; st is the start timestamp in ms, or 0.
	Float(t, st int64, v float64)
	// Histogram and FloatHistogram add a histogram, which is copied. Their error says what is wrong with it.
	Histogram(t, st int64, h *histogram.Histogram) error
	FloatHistogram(t, st int64, h *histogram.FloatHistogram) error
	// Commit returns when all samples are durable and visible to queries.
	Commit(ctx context.Context) error
	// Release ends the use of the batch, committed or not.
	Release()
}

// GuessingBatch is a Batch that remembers in which order a sender writes its series.
type GuessingBatch interface {
	// Guess returns the key of the series that followed the one at hand the last time, and what Learn was told of it. The key
	// is nil if nothing is known, and valid until the batch moves on.
	Guess() (key *wire.Key, extent uint32)
	// Learn notes the extent of the labels of the series at hand, which Known has positioned the batch on.
	Learn(extent uint32)
	// Guessed positions the batch on the series that Guess returned, adds a sample without start timestamp, and returns the
	// next guess. t is in ms.
	Guessed(t int64, v float64) (key *wire.Key, extent uint32)
}

// ExemplarBatch is a Batch that keeps exemplars. Without it they are counted as dropped, and 2.0 senders are told that none was
// written.
type ExemplarBatch interface {
	// Exemplar adds an exemplar to the series at hand. Its labels belong to the batch from now on.
	Exemplar(e exemplar.Exemplar)
}

// MetadataBatch is a Batch that keeps metadata.
type MetadataBatch interface {
	// Metadata says what the metric family is. The strings are valid only until it returns.
	Metadata(family string, m metadata.Metadata)
}

type (
	retryable interface{ RetryAfter() time.Duration }
	limited   interface{ LimitExceeded() string }
)

// NewStore makes a Store of promkeep's storage.
func NewStore(db *storage.DB) Store { return dbStore{db} }

type dbStore struct{ *storage.DB }

func (s dbStore) NewBatch(ctx context.Context, tenant string) (Batch, error) {
	b, err := s.DB.NewBatch(ctx, tenant)
	if err != nil {
		return nil, err // not a nil *storage.Batch within an interface
	}
	return b, nil
}
