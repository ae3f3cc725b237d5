package adapter

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/promkeep/promkeep/adapter/wire"
	"github.com/promkeep/promkeep/storage/catalogue"
)

// budget bounds the bytes that all requests hold together.
type budget struct {
	used  atomic.Int64
	limit int64
}

// take takes n bytes, unless they are more than is left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// What a batch holds of a request until it is committed may be many times what was sent: a histogram of ten bytes takes some
// two hundred, and in 2.0 a symbol of two kilobytes can be the value of all labels of all series. So it counts too, about, in
// bytes; the payload of the log is included.
const (
	seriesBytes    = 24  // of a series
	newSeriesBytes = 192 // of a series that has to be resolved, beside twice its labels
	floatBytes     = 40
	histogramBytes = 256 // beside bucketBytes for each span, bucket and bound
	bucketBytes    = 16
	exemplarBytes  = 160 // beside twice its labels
	metadataBytes  = 192 // beside its texts

	// growStep is how much a request takes at once, so that not every series changes what all requests share.
	growStep = 64 << 10
)

// grow counts n bytes that the batch holds. When they are too many, ok is false, and full is set.
func (rq *request) grow(n int) (ok bool) {
	rq.grown += int64(n)
	return rq.grown <= rq.reserved || rq.reserve()
}

func (rq *request) reserve() bool {
	missing := rq.grown - rq.reserved
	for _, step := range [...]int64{max(missing, growStep), missing} {
		if rq.take(step) {
			rq.reserved += step
			return true
		}
	}
	rq.full = true
	return false
}

// labelBytes is what labels take if they are taken: longer ones are refused before they are copied.
func labelBytes(ls []wire.Label) (n int) {
	for _, l := range ls {
		n += min(len(l.Name), maxLabelName) + min(len(l.Value), catalogue.MaxLabelValue)
	}
	return n
}

// sizeOf is about what a batch holds of a histogram.
func sizeOf(h wire.Histogram) int {
	n := 0
	if x := h.Int; x != nil {
		n = len(x.PositiveSpans) + len(x.NegativeSpans) + len(x.PositiveBuckets) + len(x.NegativeBuckets) + len(x.CustomValues)
	} else {
		x := h.Float
		n = len(x.PositiveSpans) + len(x.NegativeSpans) + len(x.PositiveBuckets) + len(x.NegativeBuckets) + len(x.CustomValues)
	}
	return histogramBytes + bucketBytes*n
}

// retryAfter is a header value in seconds, at least 1, spread so that senders that were refused together do not come back
// together.
func retryAfter(d time.Duration) string {
	s := max(1, int((d+time.Second-1)/time.Second))
	return strconv.Itoa(s + rand.IntN(s+1))
}
