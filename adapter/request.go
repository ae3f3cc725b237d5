package adapter

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/adapter/wire"
)

// decoder is what wire.V1 and wire.V2 have in common.
type decoder interface {
	Reset([]byte) error
	Next() bool
	Err() error
	Index() int
	LabelCount() int
	Samples() int
	Histograms() int
	Exemplars() int
	SeriesErr() error
	Key() wire.Key
	Labels([]wire.Label, int) ([]wire.Label, error)
	NextSample() bool
	Sample() wire.Sample
	NextHistogram() bool
	Histogram() wire.Histogram
	NextExemplar() bool
	Exemplar() wire.Exemplar
	ExemplarLabels([]wire.Label, int) ([]wire.Label, error)
	NextMetadata() bool
	Metadata() (wire.Metadata, bool)
	Foreign() bool
}

// shownProblems is how many problems an answer tells of; their number is told in any case.
const shownProblems = 10

// request is the state of one request. It is used again for others.
type request struct {
	budget *budget
	taken  int64 // of the budget
	grown  int64 // bytes that the batch holds, about
	// reserved is how much of taken is for grown.
	reserved int64
	full     bool // the budget did not suffice for the batch

	body, decoded []byte
	v1            wire.V1
	v2            wire.V2

	protocol protocol
	d        decoder
	batch    Batch
	guesses  GuessingBatch // the batch, if it can guess and so can the protocol
	minTime  int64         // ms: samples outside of these are refused
	maxTime  int64

	labels  []wire.Label
	builder labels.ScratchBuilder
	relabel labels.Builder

	seen    [kinds]int
	written [kinds]int
	refused [reasons]int
	dropped [2]int

	problems []string
	problem  int // how many there were
}

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest(b *budget) *request {
	rq := requests.Get().(*request)
	rq.budget = b
	return rq
}

// take takes n bytes of what all requests may hold together, until release.
func (rq *request) take(n int64) bool {
	if !rq.budget.take(n) {
		return false
	}
	rq.taken += n
	return true
}

// release ends the use of the request, and leaves memory for the next unless it is too much.
func (rq *request) release() {
	rq.budget.give(rq.taken)
	body, decoded := rq.body, rq.decoded
	if cap(body) > maxPooledBytes {
		body = nil
	}
	if cap(decoded) > maxPooledBytes {
		decoded = nil
	}
	rq.d, rq.batch, rq.guesses = nil, nil, nil
	_ = rq.v1.Reset(nil)
	if rq.v2.TableBytes() > maxPooledBytes {
		rq.v2 = wire.V2{}
	} else {
		_ = rq.v2.Reset(nil)
	}
	clear(rq.labels)
	clear(rq.problems)
	*rq = request{
		body: body, decoded: decoded, v1: rq.v1, v2: rq.v2,
		labels: rq.labels[:0], builder: rq.builder, relabel: rq.relabel, problems: rq.problems[:0],
	}
	requests.Put(rq)
}

// refuse counts samples of the series at hand that are refused, and keeps the text for the answer.
func (rq *request) refuse(samples int, bad *refusal) {
	rq.refused[bad.why] += samples
	if rq.problem++; rq.problem > shownProblems {
		return
	}
	rq.problems = append(rq.problems, fmt.Sprintf("%s: %s", rq.name(), bad.text))
}

// name names the series at hand.
func (rq *request) name() string {
	ls, err := rq.d.Labels(nil, shownLabels+1)
	if err != nil || len(ls) == 0 {
		return fmt.Sprintf("time series %d", rq.d.Index())
	}
	return describe(ls)
}

// refusedSamples is how many samples and exemplars were refused.
func (rq *request) refusedSamples() (n int) {
	for _, r := range rq.refused {
		n += r
	}
	return n
}

// answer is the body of a 400. Prometheus logs its first line, so that has the gist.
func (rq *request) answer() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d samples and exemplars were refused, the rest was stored", rq.refusedSamples(), rq.seen[floats]+rq.seen[histograms]+rq.seen[exemplars])
	for i, p := range rq.problems {
		if i == 0 {
			b.WriteString("; first problem: ")
		}
		b.WriteString(p)
		b.WriteByte('\n')
	}
	if more := rq.problem - len(rq.problems); more > 0 {
		fmt.Fprintf(&b, "and %d more problems\n", more)
	}
	return b.String()
}

// maxTimestamp is the end of the year 9999, in ms.
var maxTimestamp = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()

// checkTime finds what is wrong with a timestamp. It is called only for those outside of minTime and maxTime.
func (rq *request) checkTime(t int64) *refusal {
	switch {
	case t < 0 || t > maxTimestamp:
		return refuse(reasonInvalidTimestamp, "the timestamp %d ms is not between the years 1970 and 9999", t)
	case t < rq.minTime:
		return refuse(reasonTooOld, "out of bounds: the timestamp %s is before the retention limit %s", when(t), when(rq.minTime))
	default:
		return refuse(reasonTooFarAhead, "out of bounds: the timestamp %s is too far in the future: until %s is taken", when(t), when(rq.maxTime))
	}
}

func when(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
