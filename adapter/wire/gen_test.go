package wire

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// nodeSeries returns label sets like those of node_exporter and cAdvisor behind a Prometheus with external labels: 9 to 14
// labels, some 300 bytes.
func nodeSeries(n int) []labels.Labels {
	out := make([]labels.Labels, n)
	for i := range out {
		ls := []string{
			"__name__", fmt.Sprintf("container_network_receive_bytes_%d_total", i%97),
			"cluster", "eu-west-1-production",
			"container", fmt.Sprintf("app-%d", i%13),
			"endpoint", "https-metrics",
			"instance", fmt.Sprintf("10.42.%d.%d:9100", i/250%250, i%250),
			"job", "kubernetes-nodes-cadvisor",
			"namespace", fmt.Sprintf("team-%d", i%31),
			"pod", fmt.Sprintf("app-%d-7d9c5b6f4d-%05x", i%13, i),
			"prometheus", "monitoring/k8s",
		}
		if i%2 == 0 {
			ls = append(ls, "device", fmt.Sprintf("eth%d", i%4), "node", fmt.Sprintf("ip-10-42-%d-%d.eu-west-1.compute.internal", i%7, i%11))
		}
		if i%3 == 0 {
			ls = append(ls, "id", fmt.Sprintf("/kubepods/burstable/pod%08x-4c1f-11ee-be56-0242ac120002/%016x", i, i))
		}
		out[i] = labels.FromStrings(ls...)
	}
	return out
}

const now = 1_760_000_000_000

// singleSamples is what Prometheus sends most: n series with a sample each.
func singleSamples(n int) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for i, ls := range nodeSeries(n) {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  prompb.FromLabels(ls, nil),
			Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: now + int64(i%15)*1000}},
		})
	}
	return req
}

func singleSamplesV2(n int) *writev2.Request {
	req, st := &writev2.Request{}, writev2.NewSymbolTable()
	for i, ls := range nodeSeries(n) {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: st.SymbolizeLabels(ls, nil),
			Samples:    []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: now + int64(i%15)*1000, StartTimestamp: now - 3_600_000}},
			Metadata: writev2.Metadata{
				Type:    writev2.Metadata_METRIC_TYPE_COUNTER,
				HelpRef: st.Symbolize("Cumulative count of bytes received " + ls.Get("__name__")),
			},
		})
	}
	req.Symbols = st.Symbols()
	return req
}

// random draws messages with everything the protocols have, good and odd.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

func (r random) float() float64 {
	switch r.IntN(6) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002) // stale
	case 1:
		return math.Float64frombits(r.Uint64())
	case 2:
		return 0
	case 3:
		return math.Inf(1)
	}
	return math.Round(r.NormFloat64()*1000) / 10
}

func (r random) time() int64 {
	switch r.IntN(5) {
	case 0:
		return 0
	case 1:
		return int64(r.Uint64())
	}
	return now + r.Int64N(1_000_000)
}

func (r random) text(max int) string {
	b := make([]byte, r.IntN(max))
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	if r.IntN(3) > 0 {
		for i := range b {
			b[i] = "abcdefgh_Z09"[b[i]%12]
		}
	}
	return string(b)
}

func (r random) name() string {
	if r.IntN(5) == 0 {
		return "__name__"
	}
	return r.text(9)
}

func (r random) signed() int64 {
	if r.IntN(4) == 0 {
		return int64(r.Uint64())
	}
	return r.Int64N(200) - 100
}

func many[T any](r random, max int, draw func() T) []T {
	var out []T
	for range r.IntN(max + 1) {
		out = append(out, draw())
	}
	return out
}

func (r random) labelsV1() []prompb.Label {
	max := 6
	if r.IntN(20) == 0 {
		max = 200
	}
	return many(r, max, func() prompb.Label { return prompb.Label{Name: r.name(), Value: r.text(300)} })
}

func (r random) histogramV1() prompb.Histogram {
	h := prompb.Histogram{
		Sum: r.float(), Schema: int32(r.signed()), ZeroThreshold: r.float(),
		NegativeDeltas: many(r, 5, r.signed), PositiveDeltas: many(r, 5, r.signed),
		NegativeCounts: many(r, 5, r.float), PositiveCounts: many(r, 5, r.float),
		ResetHint: prompb.Histogram_ResetHint(r.IntN(4)), Timestamp: r.time(), CustomValues: many(r, 4, r.float),
	}
	span := func() prompb.BucketSpan { return prompb.BucketSpan{Offset: int32(r.signed()), Length: r.Uint32()} }
	h.NegativeSpans, h.PositiveSpans = many(r, 3, span), many(r, 3, span)
	switch r.IntN(3) {
	case 0:
		h.Count = &prompb.Histogram_CountInt{CountInt: r.Uint64()}
	case 1:
		h.Count = &prompb.Histogram_CountFloat{CountFloat: r.float()}
	}
	switch r.IntN(3) {
	case 0:
		h.ZeroCount = &prompb.Histogram_ZeroCountInt{ZeroCountInt: r.Uint64()}
	case 1:
		h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: r.float()}
	}
	return h
}

func (r random) requestV1() *prompb.WriteRequest {
	return &prompb.WriteRequest{
		Timeseries: many(r, 8, func() prompb.TimeSeries {
			return prompb.TimeSeries{
				Labels:     r.labelsV1(),
				Samples:    many(r, 3, func() prompb.Sample { return prompb.Sample{Value: r.float(), Timestamp: r.time()} }),
				Histograms: many(r, 2, r.histogramV1),
				Exemplars: many(r, 2, func() prompb.Exemplar {
					return prompb.Exemplar{Labels: r.labelsV1(), Value: r.float(), Timestamp: r.time()}
				}),
			}
		}),
		Metadata: many(r, 3, func() prompb.MetricMetadata {
			return prompb.MetricMetadata{
				Type: prompb.MetricMetadata_MetricType(r.IntN(9)), MetricFamilyName: r.text(20), Help: r.text(200), Unit: r.text(5),
			}
		}),
	}
}

func (r random) refs(symbols int) []uint32 {
	if r.IntN(30) == 0 {
		return many(r, 7, r.Uint32)
	}
	out := many(r, 8, func() uint32 { return uint32(r.IntN(symbols)) })
	if r.IntN(10) > 0 {
		out = out[:len(out)/2*2]
	}
	return out
}

func (r random) histogramV2() writev2.Histogram {
	h := writev2.Histogram{
		Sum: r.float(), Schema: int32(r.signed()), ZeroThreshold: r.float(),
		NegativeDeltas: many(r, 5, r.signed), PositiveDeltas: many(r, 5, r.signed),
		NegativeCounts: many(r, 5, r.float), PositiveCounts: many(r, 5, r.float),
		ResetHint: writev2.Histogram_ResetHint(r.IntN(4)), Timestamp: r.time(), StartTimestamp: r.time(),
		CustomValues: many(r, 4, r.float),
	}
	span := func() writev2.BucketSpan {
		return writev2.BucketSpan{Offset: int32(r.signed()), Length: r.Uint32()}
	}
	h.NegativeSpans, h.PositiveSpans = many(r, 3, span), many(r, 3, span)
	switch r.IntN(3) {
	case 0:
		h.Count = &writev2.Histogram_CountInt{CountInt: r.Uint64()}
	case 1:
		h.Count = &writev2.Histogram_CountFloat{CountFloat: r.float()}
	}
	switch r.IntN(3) {
	case 0:
		h.ZeroCount = &writev2.Histogram_ZeroCountInt{ZeroCountInt: r.Uint64()}
	case 1:
		h.ZeroCount = &writev2.Histogram_ZeroCountFloat{ZeroCountFloat: r.float()}
	}
	return h
}

func (r random) requestV2() *writev2.Request {
	req := &writev2.Request{Symbols: append([]string{""}, many(r, 20, func() string { return r.text(40) })...)}
	req.Symbols = append(req.Symbols, "__name__")
	n := len(req.Symbols)
	req.Timeseries = many(r, 8, func() writev2.TimeSeries {
		return writev2.TimeSeries{
			LabelsRefs: r.refs(n),
			Samples: many(r, 3, func() writev2.Sample {
				return writev2.Sample{Value: r.float(), Timestamp: r.time(), StartTimestamp: r.time()}
			}),
			Histograms: many(r, 2, r.histogramV2),
			Exemplars: many(r, 2, func() writev2.Exemplar {
				return writev2.Exemplar{LabelsRefs: r.refs(n), Value: r.float(), Timestamp: r.time()}
			}),
			Metadata: writev2.Metadata{
				Type: writev2.Metadata_MetricType(r.IntN(9)), HelpRef: uint32(r.IntN(n)), UnitRef: uint32(r.IntN(n)),
			},
		}
	})
	return req
}
