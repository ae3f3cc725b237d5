package promql

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/proto"
)

// federated is the last sample of a series: a float, or a histogram if h is set.
type federated struct {
	labels labels.Labels
	t      int64
	f      float64
	h      *histogram.FloatHistogram
}

// federate answers /federate: the last sample, if it is no older than the lookback delta, of each series that a match[]
// selects, in an exposition format. See https://prometheus.io/docs/prometheus/latest/federation/.
func (h *handler) federate(w http.ResponseWriter, r *http.Request) {
	sets, err := h.Engine.Parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	samples, err := h.lastSamples(r.Context(), time.Now().UnixMilli(), sets)
	if err != nil {
		status, _ := statusOf(err)
		http.Error(w, err.Error(), status)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText),
		expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain))
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, family := range families(samples, format.FormatType()) {
		if err := enc.Encode(family); err != nil {
			h.Logger.Error("federation failed", "err", err)
			panic(http.ErrAbortHandler) // Part of the answer is on its way; it must not look whole.
		}
	}
}

func (h *handler) lastSamples(ctx context.Context, now int64, sets [][]*labels.Matcher) ([]federated, error) {
	// The lookback of an instant selector: the sample exactly that old is out.
	mint := now - h.Engine.opts.LookbackDelta.Milliseconds() + 1
	q, err := h.queryable.Querier(mint, now)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	hints := &storage.SelectHints{Start: mint, End: now}
	selected := make([]storage.SeriesSet, 0, len(sets))
	for _, matchers := range sets {
		selected = append(selected, q.Select(ctx, true, hints, matchers...))
	}
	merged := storage.NewMergeSeriesSet(selected, 0, storage.ChainedSeriesMerge)
	var (
		out []federated
		it  chunkenc.Iterator
	)
	for merged.Next() {
		s := merged.At()
		it = s.Iterator(it)
		last := federated{labels: s.Labels()}
		kind := chunkenc.ValNone
		for typ := it.Next(); typ != chunkenc.ValNone && it.AtT() <= now; typ = it.Next() {
			if kind = typ; typ == chunkenc.ValFloat {
				last.t, last.f = it.At()
				last.h = nil
			} else {
				last.t, last.h = it.AtFloatHistogram(nil)
			}
		}
		if err := it.Err(); err != nil {
			return nil, classify(ctx, err)
		}
		// The formats have no stale markers. Leaving the series out makes it go stale at the reader too.
		if kind == chunkenc.ValNone || last.h == nil && value.IsStaleNaN(last.f) || last.h != nil && value.IsStaleNaN(last.h.Sum) {
			continue
		}
		out = append(out, last)
	}
	return out, merged.Err()
}

// families groups samples by metric name and type. Only protobuf can carry native histograms; those with custom buckets
// are classic histograms in all formats.
func families(samples []federated, format expfmt.FormatType) []*dto.MetricFamily {
	protobuf := format == expfmt.TypeProtoDelim || format == expfmt.TypeProtoText || format == expfmt.TypeProtoCompact
	typeOf := func(s federated) dto.MetricType {
		switch {
		case s.h == nil:
			return dto.MetricType_UNTYPED
		case s.h.CounterResetHint == histogram.GaugeType:
			return dto.MetricType_GAUGE_HISTOGRAM
		default:
			return dto.MetricType_HISTOGRAM
		}
	}
	samples = slices.DeleteFunc(samples, func(s federated) bool {
		return s.labels.Get(model.MetricNameLabel) == "" || s.h != nil && !s.h.UsesCustomBuckets() && !protobuf
	})
	slices.SortStableFunc(samples, func(a, b federated) int {
		if c := strings.Compare(a.labels.Get(model.MetricNameLabel), b.labels.Get(model.MetricNameLabel)); c != 0 {
			return c
		}
		return int(typeOf(a)) - int(typeOf(b))
	})
	var out []*dto.MetricFamily
	for _, s := range samples {
		name, typ := s.labels.Get(model.MetricNameLabel), typeOf(s)
		if n := len(out); n == 0 || out[n-1].GetName() != name || out[n-1].GetType() != typ {
			out = append(out, &dto.MetricFamily{Name: proto.String(name), Type: typ.Enum()})
		}
		family := out[len(out)-1]
		family.Metric = append(family.Metric, metricOf(s))
	}
	return out
}

func metricOf(s federated) *dto.Metric {
	m := &dto.Metric{TimestampMs: proto.Int64(s.t)}
	s.labels.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && l.Value != "" {
			m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
		}
	})
	// A reader with honor_labels would otherwise give a series without instance that of this server.
	if s.labels.Get(model.InstanceLabel) == "" {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(model.InstanceLabel), Value: proto.String("")})
	}
	switch {
	case s.h == nil:
		m.Untyped = &dto.Untyped{Value: proto.Float64(s.f)}
	case s.h.UsesCustomBuckets():
		m.Histogram = classicHistogram(s.h)
	default:
		m.Histogram = nativeHistogram(s.h)
	}
	return m
}

func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Schema:           proto.Int32(h.Schema),
		ZeroThreshold:    proto.Float64(h.ZeroThreshold),
		ZeroCountFloat:   proto.Float64(h.ZeroCount),
		PositiveSpan:     spans(h.PositiveSpans),
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     spans(h.NegativeSpans),
		NegativeCount:    h.NegativeBuckets,
	}
}

func spans(in []histogram.Span) (out []*dto.BucketSpan) {
	for _, s := range in {
		out = append(out, &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)})
	}
	return out
}

// classicHistogram cumulates the buckets up to each bound; the encoders add the one of +Inf.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	counts := make([]float64, len(h.CustomValues)+1)
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); int(b.Index) < len(counts) {
			counts[b.Index] += b.Count
		}
	}
	out := &dto.Histogram{SampleCountFloat: proto.Float64(h.Count), SampleSum: proto.Float64(h.Sum)}
	sum := 0.0
	for i, bound := range h.CustomValues {
		sum += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCountFloat: proto.Float64(sum)})
	}
	return out
}
