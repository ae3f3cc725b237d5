package adapter

import (
	"errors"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/promkeep/promkeep/adapter/wire"
)

// position is where a batch stands for the series at hand. A new series is given to the batch with its first good sample, so
// that series without any are not created.
type position struct {
	key  wire.Key
	lset labels.Labels
	done bool
}

func (p *position) take(b Batch) {
	if !p.done {
		b.New(p.key, p.lset)
		p.done = true
	}
}

// errFull means that there is no memory for the batch.
var errFull = errors.New("the requests hold too much")

// ingest puts all good samples of a request into the batch, and notes what is wrong with the others. Its error means that
// the request is not well-formed, or errFull, and the batch must not be committed.
func (h *WriteHandler) ingest(rq *request) error {
	d := rq.d
	if rq.protocol == protocolV1 {
		rq.guesses, _ = rq.batch.(GuessingBatch)
	}
	for {
		if h.ingestGuessed(rq); rq.full {
			return errFull
		}
		if !d.Next() {
			break
		}
		if h.ingestSeries(rq); rq.full {
			return errFull
		}
	}
	if m, ok := rq.batch.(MetadataBatch); ok && rq.protocol == protocolV1 {
		for d.NextMetadata() {
			if md, ok := d.Metadata(); ok && !rq.putMetadata(m, md, md.Metric) {
				return errFull
			}
		}
	}
	return d.Err()
}

// maxGuessed is how many series are taken before it is asked whether there is memory for them.
const maxGuessed = 1000

// ingestGuessed puts series into the batch as long as they are the ones that were to be expected, each with one sample.
// This is the way of nearly all samples; what is not as expected takes the way of ingestSeries, with the same outcome.
func (h *WriteHandler) ingestGuessed(rq *request) {
	if rq.guesses == nil {
		return
	}
	n := 0
	for key, extent := rq.guesses.Guess(); key != nil && n < maxGuessed; {
		s, ok := rq.v1.NextGuessed(*key, wire.Extent(extent))
		if !ok {
			break
		}
		rq.seen[floats]++
		if s.T < rq.minTime || s.T > rq.maxTime {
			rq.refuse(1, rq.checkTime(s.T))
			break
		}
		key, extent = rq.guesses.Guessed(s.T, s.V)
		n++
	}
	rq.written[floats] += n
	rq.grow(n * (seriesBytes + floatBytes))
}

func (h *WriteHandler) ingestSeries(rq *request) {
	d := rq.d
	nf, nh, ne := d.Samples(), d.Histograms(), d.Exemplars()
	rq.seen[floats] += nf
	rq.seen[histograms] += nh
	rq.seen[exemplars] += ne
	all := nf + nh + ne
	if all == 0 && rq.protocol == protocolV1 {
		return
	}
	if !rq.grow(seriesBytes + floatBytes*nf) {
		return
	}

	if err := d.SeriesErr(); err != nil {
		rq.refuse(all, &refusal{reasonMalformedSeries, err.Error()})
		return
	}
	if n := d.LabelCount(); n > h.opts.Limits.Labels {
		rq.refuse(all, refuse(reasonTooManyLabels, "it has %d labels, the limit is %d", n, h.opts.Limits.Labels))
		return
	}
	if rq.protocol == protocolV2 {
		// Prometheus sends exemplars in time series of their own, so those need neither samples nor histograms.
		if all == 0 {
			rq.refuse(0, &refusal{reasonNoSamples, "it has neither samples nor histograms"})
			return
		}
		if nf > 0 && nh > 0 {
			rq.refuse(all, &refusal{reasonMixedSamples, "it has both samples and histograms"})
			return
		}
	}

	p := position{key: d.Key()}
	if p.done = rq.batch.Known(p.key); p.done {
		if rq.guesses != nil {
			if extent := rq.v1.Extent(); extent > 0 {
				rq.guesses.Learn(uint32(extent))
			}
		}
	} else {
		if len(h.opts.Relabel) > 0 && h.dropped.has(p.key) {
			rq.dropped[droppedByRelabelling] += all
			return
		}
		var bad *refusal
		var err error
		if rq.labels, err = d.Labels(rq.labels[:0], h.opts.Limits.Labels); err != nil {
			return // not well-formed: Next ends, too
		}
		if !rq.grow(newSeriesBytes + 2*labelBytes(rq.labels)) {
			return
		}
		if p.lset, bad, err = h.series(rq, rq.labels); err != nil {
			h.dropped.add(p.key)
			rq.dropped[droppedByRelabelling] += all
			return
		}
		if bad != nil {
			rq.refuse(all, bad)
			return
		}
	}

	last := int64(0)
	for d.NextSample() {
		s := d.Sample()
		if s.T < rq.minTime || s.T > rq.maxTime {
			rq.refuse(1, rq.checkTime(s.T))
			continue
		}
		p.take(rq.batch)
		rq.batch.Float(s.T, s.ST, s.V)
		rq.written[floats]++
		last = s.T
	}
	for d.NextHistogram() {
		s := d.Histogram()
		if s.T < rq.minTime || s.T > rq.maxTime {
			rq.refuse(1, rq.checkTime(s.T))
			continue
		}
		if !rq.grow(sizeOf(s)) {
			return
		}
		if err := p.putHistogram(rq.batch, s); err != nil {
			rq.refuse(1, refuse(reasonInvalidHistogram, "the histogram at %d ms: %v", s.T, err))
			continue
		}
		rq.written[histograms]++
		last = s.T
	}
	if h.ingestExemplars(rq, &p, last); rq.full {
		return
	}
	if m, ok := rq.batch.(MetadataBatch); ok && rq.protocol == protocolV2 {
		if md, ok := d.Metadata(); ok {
			rq.putMetadata(m, md, family(md))
		}
	}
}

// putHistogram adds a histogram if it is valid. A resolution finer than Prometheus has is reduced, as Prometheus does.
func (p *position) putHistogram(b Batch, s wire.Histogram) error {
	if h := s.Int; h != nil {
		if finer(h.Schema) {
			if err := h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
				return err
			}
		}
		if !p.done {
			if err := h.Validate(); err != nil {
				return err
			}
		}
		p.take(b)
		return b.Histogram(s.T, s.ST, h)
	}
	h := s.Float
	if finer(h.Schema) {
		if err := h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
			return err
		}
	}
	if !p.done {
		if err := h.Validate(); err != nil {
			return err
		}
	}
	p.take(b)
	return b.FloatHistogram(s.T, s.ST, h)
}

func finer(schema int32) bool {
	return histogram.IsExponentialSchemaReserved(schema) && schema > histogram.ExponentialSchemaMax
}

func (h *WriteHandler) ingestExemplars(rq *request, p *position, last int64) {
	d := rq.d
	if d.Exemplars() == 0 {
		return
	}
	keeper, keeps := rq.batch.(ExemplarBatch)
	for d.NextExemplar() {
		e := d.Exemplar()
		var err error
		if rq.labels, err = d.ExemplarLabels(rq.labels[:0], h.opts.Limits.Labels); err != nil {
			if d.Err() != nil {
				return
			}
			rq.refuse(1, refuse(reasonInvalidExemplar, "an exemplar: %v", err))
			continue
		}
		runes := 0
		for _, l := range rq.labels {
			runes += utf8.RuneCount(l.Name) + utf8.RuneCount(l.Value)
		}
		if runes > h.opts.Limits.ExemplarRunes {
			rq.refuse(1, refuse(reasonInvalidExemplar, "an exemplar has labels of %d characters, the limit is %d", runes, h.opts.Limits.ExemplarRunes))
			continue
		}
		if !rq.grow(exemplarBytes + 2*labelBytes(rq.labels)) {
			return
		}
		lset, bad := h.opts.Limits.normalise(&rq.builder, rq.labels)
		if bad != nil {
			rq.refuse(1, refuse(reasonInvalidExemplar, "an exemplar: %s", bad.text))
			continue
		}
		t := e.T
		if t == 0 {
			t = last
		}
		if t < rq.minTime || t > rq.maxTime {
			rq.refuse(1, rq.checkTime(t))
			continue
		}
		if !keeps {
			rq.dropped[droppedExemplars]++
			continue
		}
		p.take(rq.batch)
		keeper.Exemplar(exemplar.Exemplar{Labels: lset, Value: e.V, Ts: t, HasTs: true})
		rq.written[exemplars]++
	}
}

var metricTypes = [...]model.MetricType{
	model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram,
	model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset,
}

func metricType(t wire.MetricType) model.MetricType {
	if t < 0 || int(t) >= len(metricTypes) {
		return model.MetricTypeUnknown
	}
	return metricTypes[t]
}

// maxMetadataBytes bounds the help text and the unit of a metric.
const maxMetadataBytes = 4096

// putMetadata passes metadata on, if it is good: it decorates samples, and is no reason to refuse any. It returns false when there
// is no memory for it.
func (rq *request) putMetadata(b MetadataBatch, md wire.Metadata, family []byte) bool {
	if len(family) == 0 || len(family) > maxMetadataBytes || len(md.Help) > maxMetadataBytes || len(md.Unit) > maxMetadataBytes {
		return true
	}
	for _, s := range [...][]byte{family, md.Help, md.Unit} {
		if !utf8.Valid(s) || strings.IndexByte(view(s), 0) >= 0 {
			return true
		}
	}
	if !rq.grow(metadataBytes + len(family) + len(md.Help) + len(md.Unit)) {
		return false
	}
	b.Metadata(view(family), metadata.Metadata{Type: metricType(md.Type), Help: view(md.Help), Unit: view(md.Unit)})
	return true
}

// view is b as a string, valid as long as b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// family is the name of the metric family of a series, as 1.0 and scrapes name it: without the suffix that the series of
// classic histograms and summaries have.
func family(md wire.Metadata) []byte {
	var suffixes []string
	switch metricType(md.Type) {
	case model.MetricTypeHistogram:
		suffixes = []string{"_bucket", "_count", "_sum"}
	case model.MetricTypeGaugeHistogram:
		suffixes = []string{"_bucket", "_gcount", "_gsum"}
	case model.MetricTypeSummary:
		suffixes = []string{"_count", "_sum"}
	}
	for _, s := range suffixes {
		if name, ok := strings.CutSuffix(view(md.Metric), s); ok && name != "" {
			return md.Metric[:len(name)]
		}
	}
	return md.Metric
}
