package wire

import (
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// dump is a request as text, with floats by their bits, so that requests that came different ways can be compared.
type dump struct{ strings.Builder }

func (d *dump) line(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *dump) sample(s Sample) { d.line("  sample %d %d %x", s.T, s.ST, math.Float64bits(s.V)) }

func bits(fs []float64) (out []string) {
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%x", math.Float64bits(f)))
	}
	return out
}

func hintOf[T ~int32](h T) histogram.CounterResetHint {
	if h < 0 || h > 3 {
		return histogram.UnknownCounterReset
	}
	return histogram.CounterResetHint(h)
}

func (d *dump) histogram(t, st int64, h *histogram.Histogram, f *histogram.FloatHistogram) {
	if h != nil {
		d.line("  int histogram %d %d: %d %d %x %d %d %x %v %v %v %v %v", t, st, h.CounterResetHint, h.Schema, math.Float64bits(h.ZeroThreshold), h.ZeroCount,
			h.Count, math.Float64bits(h.Sum), h.PositiveSpans, h.NegativeSpans, h.PositiveBuckets, h.NegativeBuckets, bits(h.CustomValues))
		return
	}
	d.line("  float histogram %d %d: %d %d %x %x %x %x %v %v %v %v %v", t, st, f.CounterResetHint, f.Schema, math.Float64bits(f.ZeroThreshold),
		math.Float64bits(f.ZeroCount), math.Float64bits(f.Count), math.Float64bits(f.Sum), f.PositiveSpans, f.NegativeSpans,
		bits(f.PositiveBuckets), bits(f.NegativeBuckets), bits(f.CustomValues))
}

// dumpDecoded reads a request with a decoder of this package.
func dumpDecoded(d decoder, request []byte) (string, error) {
	var out dump
	if err := d.Reset(request); err != nil {
		return "", err
	}
	for d.Next() {
		if err := d.SeriesErr(); err != nil {
			out.line("series %d is bad", d.Index())
			for d.NextSample() || d.NextHistogram() { // what is in it must be well-formed all the same
			}
			for d.NextExemplar() {
				_, _ = d.ExemplarLabels(nil, 0)
			}
			continue
		}
		ls, err := d.Labels(nil, 1<<30)
		if err != nil {
			return "", err
		}
		out.line("series %d, %d labels %q: %d %d %d", d.Index(), d.LabelCount(), ls, d.Samples(), d.Histograms(), d.Exemplars())
		for d.NextSample() {
			out.sample(d.Sample())
		}
		for d.NextHistogram() {
			h := d.Histogram()
			out.histogram(h.T, h.ST, h.Int, h.Float)
		}
		for d.NextExemplar() {
			ls, err := d.ExemplarLabels(nil, 1<<30)
			if err != nil && d.Err() != nil {
				return "", err
			}
			if err != nil {
				out.line("  bad exemplar")
				continue
			}
			out.line("  exemplar %q %d %x", ls, d.Exemplar().T, math.Float64bits(d.Exemplar().V))
		}
		if v2, ok := d.(*V2); ok {
			out.line("  metadata %d %q %q", v2.meta.typ, v2.symbol(v2.meta.help), v2.symbol(v2.meta.unit))
		}
	}
	for d.NextMetadata() {
		m, _ := d.Metadata()
		out.line("metadata %d %q %q %q", m.Type, m.Metric, m.Help, m.Unit)
	}
	return out.String(), d.Err()
}

// dumpV1 is dumpDecoded of what prompb makes of a request.
func dumpV1(req *prompb.WriteRequest) string {
	var out dump
	show := func(ls []prompb.Label) (out []Label) {
		for _, l := range ls {
			out = append(out, Label{[]byte(l.Name), []byte(l.Value)})
		}
		return out
	}
	for i, ts := range req.Timeseries {
		out.line("series %d, %d labels %q: %d %d %d", i, len(ts.Labels), show(ts.Labels), len(ts.Samples), len(ts.Histograms), len(ts.Exemplars))
		for _, s := range ts.Samples {
			out.sample(Sample{T: s.Timestamp, V: s.Value})
		}
		for _, h := range ts.Histograms {
			hint := hintOf(h.ResetHint)
			i, f := h.ToIntHistogram(), h.ToFloatHistogram()
			if i != nil {
				i.CounterResetHint = hint
			}
			f.CounterResetHint = hint
			out.histogram(h.Timestamp, 0, i, f)
		}
		for _, e := range ts.Exemplars {
			out.line("  exemplar %q %d %x", show(e.Labels), e.Timestamp, math.Float64bits(e.Value))
		}
	}
	for _, m := range req.Metadata {
		out.line("metadata %d %q %q %q", m.Type, m.MetricFamilyName, m.Help, m.Unit)
	}
	return out.String()
}

// dumpV2 is dumpDecoded of what writev2 makes of a request.
func dumpV2(req *writev2.Request) string {
	var out dump
	resolve := func(refs []uint32) (ls []Label, ok bool) {
		for _, r := range refs {
			if int(r) >= len(req.Symbols) {
				return nil, false
			}
		}
		if len(refs)%2 != 0 {
			return nil, false
		}
		for i := 0; i < len(refs); i += 2 {
			ls = append(ls, Label{[]byte(req.Symbols[refs[i]]), []byte(req.Symbols[refs[i+1]])})
		}
		return ls, true
	}
	for i, ts := range req.Timeseries {
		ls, ok := resolve(ts.LabelsRefs)
		if _, known := resolve([]uint32{ts.Metadata.HelpRef, ts.Metadata.UnitRef}); !ok || !known {
			out.line("series %d is bad", i)
			continue
		}
		out.line("series %d, %d labels %q: %d %d %d", i, len(ls), ls, len(ts.Samples), len(ts.Histograms), len(ts.Exemplars))
		for _, s := range ts.Samples {
			out.sample(Sample{T: s.Timestamp, ST: s.StartTimestamp, V: s.Value})
		}
		for _, h := range ts.Histograms {
			hint := hintOf(h.ResetHint)
			i, f := h.ToIntHistogram(), h.ToFloatHistogram()
			if i != nil {
				i.CounterResetHint = hint
			}
			f.CounterResetHint = hint
			out.histogram(h.Timestamp, h.StartTimestamp, i, f)
		}
		for _, e := range ts.Exemplars {
			if ls, ok := resolve(e.LabelsRefs); ok {
				out.line("  exemplar %q %d %x", ls, e.Timestamp, math.Float64bits(e.Value))
			} else {
				out.line("  bad exemplar")
			}
		}
		out.line("  metadata %d %q %q", ts.Metadata.Type, req.Symbols[ts.Metadata.HelpRef], req.Symbols[ts.Metadata.UnitRef])
	}
	return out.String()
}
