package adapter_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/adapter/tenancy"
)

// TestV1: samples arrive bit by bit, at first and when their series are known; a label set may repeat within a request.
func TestV1(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	odd := []float64{1.5, math.Float64frombits(value.StaleNaN), math.Float64frombits(0x7ff8000000000001), math.Inf(-1), math.Float64frombits(1), math.Copysign(0, -1)}
	ls := labels.FromStrings("__name__", "odd", "job", "x")
	var want []string
	for round := range 3 {
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(ls, nil)}
		twice := prompb.TimeSeries{Labels: ts.Labels}
		for i, v := range odd {
			at := base + int64(round*100+i)*1000
			if i%2 == 0 {
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: at, Value: v})
			} else {
				twice.Samples = append(twice.Samples, prompb.Sample{Timestamp: at, Value: v})
			}
			if v == 0 {
				v = 0 // gogo's encoder takes -0 for the default, and leaves it out
			}
			want = append(want, floatLine(ls, at, v))
		}
		a := b.writeV1(t, requestOf(ts, twice))
		require.Equal(t, http.StatusNoContent, a.code, a.body)
		require.Empty(t, a.body)
		for name := range a.header {
			require.NotContains(t, name, "Written", "2.0 headers in an answer to 1.0")
		}
	}
	require.Equal(t, want, b.read(t, "", matching("odd")))
	require.EqualValues(t, 18, b.metric(t, "promkeep_remote_write_received_samples_total", "1.0", "float"))
	require.EqualValues(t, 3, b.metric(t, "promkeep_remote_write_requests_total", "1.0", "204"))
	require.EqualValues(t, 3, b.metric(t, "promkeep_remote_write_request_duration_seconds", "1.0"))
}

// TestV2: every kind of sample, with the counts in the headers.
func TestV2(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	st := writev2.NewSymbolTable()
	refs := func(name string) []uint32 {
		return st.SymbolizeLabels(labels.FromStrings("__name__", name, "job", "x"), nil)
	}
	ints, floats := tsdbutil.GenerateTestHistogram(3), tsdbutil.GenerateTestFloatHistogram(4)
	custom := tsdbutil.GenerateTestCustomBucketsHistogram(5)
	stale := &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{
		{LabelsRefs: refs("f"), Samples: []writev2.Sample{{Timestamp: base, Value: 1, StartTimestamp: base - 1000}, {Timestamp: base + 1000, Value: 2}},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: st.Symbolize("A counter.")}},
		{LabelsRefs: refs("f"), Samples: []writev2.Sample{{Timestamp: base + 2000, Value: 3}}},
		{LabelsRefs: refs("h"), Histograms: []writev2.Histogram{
			writev2.FromIntHistogram(base-1, base, ints), writev2.FromFloatHistogram(0, base+1000, floats), writev2.FromIntHistogram(0, base+2000, stale)}},
		{LabelsRefs: refs("c"), Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, base, custom)}},
	}}
	req.Symbols = st.Symbols()
	var want []string
	ls := func(name string) labels.Labels { return labels.FromStrings("__name__", name, "job", "x") }
	want = append(want, histogramLine(ls("c"), base, custom.ToFloat(nil)))
	for i := range 3 {
		want = append(want, floatLine(ls("f"), base+int64(i)*1000, float64(i+1)))
	}
	want = append(want, histogramLine(ls("h"), base, ints.ToFloat(nil)), histogramLine(ls("h"), base+1000, floats), histogramLine(ls("h"), base+2000, stale.ToFloat(nil)))
	for range 2 { // the second time all is known, and a duplicate
		a := b.writeV2(t, req)
		require.Equal(t, http.StatusNoContent, a.code, a.body)
		require.Equal(t, "3", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
		require.Equal(t, "4", a.header.Get("X-Prometheus-Remote-Write-Histograms-Written"))
		require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"))
		require.Equal(t, want, b.read(t, "", matching(".+")))
	}
}

// TestBoundsOfSeveralHistograms: each histogram keeps the custom bounds it came with.
func TestBoundsOfSeveralHistograms(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	var want []string
	for round := range 3 {
		st := writev2.NewSymbolTable()
		req := &writev2.Request{}
		for i := range 5 {
			h := tsdbutil.GenerateTestCustomBucketsHistogram(1)
			for k := range h.CustomValues {
				h.CustomValues[k] += float64(100*i + 10*round)
			}
			ls := labels.FromStrings("__name__", "h", "i", fmt.Sprint(i))
			at := base + int64(round)*1000
			x := writev2.FromIntHistogram(0, at, h)
			if i%2 == 1 {
				x = writev2.FromFloatHistogram(0, at, h.ToFloat(nil))
			}
			req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: st.SymbolizeLabels(ls, nil), Histograms: []writev2.Histogram{x}})
			want = append(want, histogramLine(ls, at, h.ToFloat(nil))+fmt.Sprint(h.CustomValues))
		}
		req.Symbols = st.Symbols()
		require.Equal(t, 204, b.writeV2(t, req).code)
	}
	slices.Sort(want)
	check := func() {
		t.Helper()
		got := b.readWith(t, "", func(line string, h *histogram.FloatHistogram) string { return line + fmt.Sprint(h.CustomValues) }, matching("h"))
		slices.Sort(got)
		require.Equal(t, want, got)
	}
	check()
	require.NoError(t, b.db.Flush(t.Context()))
	check()
}

// TestBothProtocolsOneSeries: what both protocols write to the same labels is one series.
func TestBothProtocolsOneSeries(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	ls := labels.FromStrings("__name__", "up", "job", "x")
	require.Equal(t, 204, b.writeV1(t, requestOf(series("__name__", "up", "job", "x"))).code)
	unsorted := series("job", "x", "empty", "", "__name__", "up")
	unsorted.Samples[0].Timestamp += 1000
	require.Equal(t, 204, b.writeV1(t, requestOf(unsorted)).code)
	st := writev2.NewSymbolTable()
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{
		{LabelsRefs: st.SymbolizeLabels(ls, nil), Samples: []writev2.Sample{{Timestamp: base + 2000, Value: 1}}}}}
	req.Symbols = st.Symbols()
	require.Equal(t, 204, b.writeV2(t, req).code)
	require.Equal(t, []string{floatLine(ls, base, 1), floatLine(ls, base+1000, 1), floatLine(ls, base+2000, 1)}, b.read(t, "", matching("up")))
}

// TestInvalidSeries: each is refused with its name and the reason, while the rest of its request is stored.
func TestInvalidSeries(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	many := series("__name__", "many")
	for i := range 10_000 {
		many.Labels = append(many.Labels, prompb.Label{Name: fmt.Sprintf("l%d", i), Value: "v"})
	}
	at := func(t int64) prompb.TimeSeries {
		ts := series("__name__", "when", "job", "x")
		ts.Samples[0].Timestamp = t
		return ts
	}
	badHistogram := series("__name__", "h")
	badHistogram.Samples, badHistogram.Histograms = nil, []prompb.Histogram{{Timestamp: base, PositiveDeltas: []int64{1}}}
	known := series("__name__", "good", "n", "known")
	require.Equal(t, 204, b.writeV1(t, requestOf(known)).code)
	late := known
	late.Samples = []prompb.Sample{{Timestamp: base + 10}, {Timestamp: 0}, {Timestamp: base + 20}}
	wantGood := []string{floatLine(labels.FromStrings("__name__", "good", "n", "known"), base, 1)}

	for i, c := range []struct {
		series prompb.TimeSeries
		reason string
		text   string
	}{
		{series("job", "x"), "no_metric_name", `{job="x"}: there is no metric name`},
		{series(), "no_metric_name", `time series 1: there is no metric name`},
		{series("__name__", ""), "no_metric_name", "there is no metric name"},
		{series("__name__", "a", "", "x"), "empty_label_name", `{__name__="a", ""="x"}: a label name is empty`},
		{series("__name__", "a", "b", "1", "c", "2", "b", "3"), "duplicate_label", `{__name__="a", b="1", c="2", b="3"}: the label "b" appears more than once`},
		{series("__name__", "a", "b", "\xff"), "invalid_utf8", `{__name__="a", b="\xff"}: the value of label "b" is not valid UTF-8`},
		{series("__name__", "a", "b\xff", "1"), "invalid_utf8", `the label name "b\xff" is not valid UTF-8`},
		{series("__name__", "\xff"), "invalid_utf8", `the value of label "__name__" is not valid UTF-8`},
		{series("__name__", "a", "b", "x\x00"), "nul_byte", `the label "b" has a NUL byte`},
		{series("__name__", "a", "b", strings.Repeat("v", 2049)), "label_value_too_long", `the value of label "b" has 2049 bytes, the limit is 2048`},
		{series("__name__", "a", strings.Repeat("n", 513), "v"), "label_name_too_long", `has 513 bytes, the limit is 512`},
		{series("__name__", "a", "b", strings.Repeat("v", 10<<20)), "label_value_too_long", `has 10485760 bytes, the limit is 2048`},
		{many, "too_many_labels", `it has 10001 labels, the limit is 128`},
		{at(-1), "invalid_timestamp", `{__name__="when", job="x"}: the timestamp -1 ms is not between the years 1970 and 9999`},
		{at(math.MaxInt64), "invalid_timestamp", "is not between the years 1970 and 9999"},
		{at(math.MinInt64), "invalid_timestamp", "is not between the years 1970 and 9999"},
		{at(0), "too_old", "out of bounds: the timestamp 1970-01-01T00:00:00.000Z is before the retention limit"},
		{at(time.Now().Add(time.Hour).UnixMilli()), "too_far_ahead", "is too far in the future"},
		{badHistogram, "invalid_histogram", `{__name__="h"}: the histogram at`},
		{late, "too_old", `{__name__="good", n="known"}: out of bounds`},
	} {
		t.Run(fmt.Sprint(i, " ", c.reason), func(t *testing.T) {
			before := b.metric(t, "promkeep_remote_write_rejected_samples_total", c.reason)
			name := fmt.Sprintf("%02d", i)
			a := b.writeV1(t, requestOf(series("__name__", "good", "n", name, "p", "before"), c.series, series("__name__", "good", "n", name, "p", "then")))
			require.Equal(t, http.StatusBadRequest, a.code)
			require.Contains(t, a.body, c.text)
			require.Less(t, len(a.body), 2000)
			first, _, _ := strings.Cut(a.body, "\n")
			require.Contains(t, first, "1 of ", "the first line is what Prometheus logs")
			require.Contains(t, first, c.text[:10])
			require.Equal(t, before+1, b.metric(t, "promkeep_remote_write_rejected_samples_total", c.reason))
			require.Equal(t, []string{
				floatLine(labels.FromStrings("__name__", "good", "n", name, "p", "before"), base, 1),
				floatLine(labels.FromStrings("__name__", "good", "n", name, "p", "then"), base, 1),
			}, b.read(t, "", matching("good"), labels.MustNewMatcher(labels.MatchEqual, "n", name)))
		})
	}
	ls := labels.FromStrings("__name__", "good", "n", "known")
	require.Equal(t, append(wantGood, floatLine(ls, base+10, 0), floatLine(ls, base+20, 0)),
		b.read(t, "", matching("good"), labels.MustNewMatcher(labels.MatchEqual, "n", "known")))
	require.Empty(t, b.read(t, "", matching("when|a|h|many")), "something refused was stored")
}

// TestLimitsAreInclusive: what is exactly at a limit is stored.
func TestLimitsAreInclusive(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	pairs := []string{"__name__", "a", strings.Repeat("n", 512), strings.Repeat("\U0001F600", 512), "unicode ünicode", "\u2028"}
	for i := range 125 {
		pairs = append(pairs, fmt.Sprintf("l%03d", i), "v")
	}
	a := b.writeV1(t, requestOf(series(pairs...)))
	require.Equal(t, 204, a.code, a.body)
	require.Equal(t, []string{floatLine(labels.FromStrings(pairs...), base, 1)}, b.read(t, "", matching("a")))
}

// TestManyProblems: the answer names a few and counts all.
func TestManyProblems(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	req := requestOf(series("__name__", "good"))
	for i := range 5000 {
		req.Timeseries = append(req.Timeseries, series("job", fmt.Sprint(i)))
	}
	a := b.writeV1(t, req)
	require.Equal(t, 400, a.code)
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	require.Len(t, lines, 11)
	require.Equal(t, `5000 of 5001 samples and exemplars were refused, the rest was stored; first problem: {job="0"}: there is no metric name`, lines[0])
	require.Equal(t, "and 4990 more problems", lines[10])
}

// TestInvalidV2: what only 2.0 can get wrong.
func TestInvalidV2(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	symbols := []string{"", "__name__", "bad", "good", "h"}
	sample := []writev2.Sample{{Timestamp: base, Value: 1}}
	good := writev2.TimeSeries{LabelsRefs: []uint32{1, 3}, Samples: sample}
	for _, c := range []struct {
		series writev2.TimeSeries
		text   string
	}{
		{writev2.TimeSeries{LabelsRefs: []uint32{1}, Samples: sample}, "time series 0: the number of label references is odd"},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 5}, Samples: sample}, "time series 0: the label reference 5 is outside of the 5 symbols"},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 1 << 31}, Samples: sample}, "is outside of the 5 symbols"},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample, Metadata: writev2.Metadata{HelpRef: 7}}, "the help reference 7 is outside"},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample, Metadata: writev2.Metadata{UnitRef: 7}}, "the unit reference 7 is outside"},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, `{__name__="bad"}: it has neither samples nor histograms`},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample, Histograms: []writev2.Histogram{{Timestamp: base}}}, `{__name__="bad"}: it has both samples and histograms`},
		{writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{9, 9}, Timestamp: base}}}, "an exemplar: the label reference 9 is outside"},
		{writev2.TimeSeries{LabelsRefs: []uint32{0, 2}, Samples: sample}, `a label name is empty`},
	} {
		a := b.writeV2(t, &writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{c.series, good}})
		require.Equal(t, 400, a.code, c.text)
		require.Contains(t, a.body, c.text)
		written := "1"
		if strings.Contains(c.text, "exemplar") {
			written = "2"
		}
		require.Equal(t, written, a.header.Get("X-Prometheus-Remote-Write-Samples-Written"), c.text)
		require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Histograms-Written"))
		require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"))
	}
	require.Len(t, b.read(t, "", matching("good")), 1)

	a := b.writeV2(t, &writev2.Request{Symbols: symbols[1:], Timeseries: []writev2.TimeSeries{good}})
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "the first symbol is not the empty string")
}

// TestMalformed: of a request that is broken anywhere nothing is stored, and the answer says where it is broken.
func TestMalformed(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	raw, err := requestOf(series("__name__", "a"), series("__name__", "b")).Marshal()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		body []byte
		text string
	}{
		"empty":            {nil, "snappy"},
		"not compressed":   {raw, "snappy"},
		"truncated snappy": {snappy.Encode(nil, raw)[:20], "snappy"},
		"truncated":        {snappy.Encode(nil, raw[:len(raw)-3]), "invalid remote-write message at offset 35: a field reaches past the end of its message; nothing of the request was stored"},
		"a group":          {snappy.Encode(nil, append(raw, 9<<3|3)), "a field is a group"},
		"text":             {snappy.Encode(nil, []byte("hello")), "invalid remote-write message at offset"},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.post(t, c.body, "Content-Type", typeV1)
			require.Equal(t, 400, a.code)
			require.Contains(t, a.body, c.text)
			require.Empty(t, b.read(t, "", matching(".+")))
		})
	}
	v2, err := (&writev2.Request{Symbols: []string{"", "__name__", "a"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: base}}}}}).Marshal()
	require.NoError(t, err)
	a := b.post(t, snappy.Encode(nil, v2[:len(v2)-2]), "Content-Type", typeV2)
	require.Equal(t, 400, a.code)
	require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))

	// The wrong protocol would be an empty request to a lenient receiver, and its samples be gone.
	a = b.post(t, snappy.Encode(nil, v2), "Content-Type", typeV1)
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "looks like the other version")
	a = b.post(t, snappy.Encode(nil, raw), "Content-Type", typeV2)
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, "looks like the other version")
	require.Empty(t, b.read(t, "", matching(".+")))
}

// TestHeaders: senders as they are.
func TestHeaders(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	v1 := compress(t, requestOf(series("__name__", "a")))
	v2 := compress(t, &writev2.Request{Symbols: []string{"", "__name__", "a"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: base, Value: 1}}}}})
	for _, c := range []struct {
		kind, encoding string
		body           []byte
		code           int
		v2             bool
	}{
		{"application/x-protobuf", "snappy", v1, 204, false},
		{"", "", v1, 204, false},
		{"application/x-protobuf;proto=prometheus.WriteRequest", "Snappy", v1, 204, false},
		{"Application/X-Protobuf; Proto=prometheus.WriteRequest", "SNAPPY", v1, 204, false},
		{"application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", v2, 204, true},
		{"application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"; charset=utf-8", "snappy", v2, 204, true},
		{"application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", v2, 415, false},
		{"application/json", "snappy", v1, 415, false},
		{"application/x-protobuf;;=", "snappy", v1, 415, false},
		{"application/x-protobuf", "gzip", v1, 415, false},
		{"application/x-protobuf;proto=io.prometheus.write.v2.Request", "zstd", v2, 415, true},
	} {
		var headers []string
		if c.kind != "" {
			headers = append(headers, "Content-Type", c.kind)
		}
		if c.encoding != "" {
			headers = append(headers, "Content-Encoding", c.encoding)
		}
		a := b.post(t, c.body, headers...)
		require.Equal(t, c.code, a.code, "%+v: %s", c, a.body)
		require.Equal(t, c.v2, a.header.Get("X-Prometheus-Remote-Write-Samples-Written") != "", c.kind)
		require.Equal(t, c.v2, a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written") != "", c.kind)
	}
	req, err := http.NewRequest(http.MethodGet, b.server.URL, nil)
	require.NoError(t, err)
	a := do(t, b.server.Client(), req)
	require.Equal(t, http.StatusMethodNotAllowed, a.code)
	require.Equal(t, "POST", a.header.Get("Allow"))
}

// TestHTTP2: and without a Content-Length.
func TestHTTP2(t *testing.T) {
	b := newBundle(t, adapter.Options{})
	server := httptest.NewUnstartedServer(b.handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{}
	server.StartTLS()
	defer server.Close()
	for _, url := range []string{server.URL, b.server.URL} {
		req, err := http.NewRequest(http.MethodPost, url, struct{ *bytes.Reader }{bytes.NewReader(compress(t, requestOf(series("__name__", "a"))))})
		require.NoError(t, err)
		req.Close = url == b.server.URL
		a := do(t, server.Client(), req)
		require.Equal(t, 204, a.code, a.body)
	}
	require.Len(t, b.read(t, "", matching("a")), 1)
}

func TestTenants(t *testing.T) {
	b := newBundle(t, adapter.Options{Tenancy: &tenancy.Policy{Header: tenancy.DefaultHeader}})
	body := compress(t, requestOf(series("__name__", "a")))
	for tenant, code := range map[string]int{
		"": 401, "team-a": 204, "Team_b.(x)!*'": 204, ".": 400, "..": 400, "a/b": 400, "a|b": 400, "ü": 400, strings.Repeat("x", 150): 204, strings.Repeat("x", 151): 400,
	} {
		var headers []string
		if tenant != "" {
			headers = []string{"X-Scope-OrgID", tenant}
		}
		a := b.post(t, body, headers...)
		require.Equal(t, code, a.code, "%q: %s", tenant, a.body)
		if code == 204 {
			require.Len(t, b.read(t, tenant, matching("a")), 1)
		}
	}
	require.Empty(t, b.read(t, "", matching("a")), "the default tenant has samples of others")

	b = newBundle(t, adapter.Options{})
	require.Equal(t, 204, b.post(t, body, "X-Scope-OrgID", "team-a").code)
	require.Len(t, b.read(t, "", matching("a")), 1, "the header counts without tenancy")
}

// TestRelabel: before normalisation, so what it makes is what is checked and stored.
func TestRelabel(t *testing.T) {
	config := func(c relabel.Config) *relabel.Config {
		d := relabel.DefaultRelabelConfig
		d.Action, d.TargetLabel, d.Replacement, d.SourceLabels = c.Action, c.TargetLabel, c.Replacement, c.SourceLabels
		if c.Regex.Regexp != nil {
			d.Regex = c.Regex
		}
		d.NameValidationScheme = model.UTF8Validation
		return &d
	}
	b := newBundle(t, adapter.Options{Relabel: []*relabel.Config{
		config(relabel.Config{Action: relabel.Drop, SourceLabels: model.LabelNames{"drop"}, Regex: relabel.MustNewRegexp("yes")}),
		config(relabel.Config{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("replica")}),
		config(relabel.Config{Action: relabel.Replace, TargetLabel: "cluster", Replacement: "eu"}),
		config(relabel.Config{Action: relabel.Replace, SourceLabels: model.LabelNames{"noname"}, Regex: relabel.MustNewRegexp("yes"), TargetLabel: "__name__", Replacement: ""}),
	}})
	for range 2 {
		a := b.writeV1(t, requestOf(series("__name__", "a", "replica", "1"), series("__name__", "b", "drop", "yes"), series("__name__", "c", "noname", "yes")))
		require.Equal(t, 400, a.code)
		require.Contains(t, a.body, `{__name__="c", noname="yes"}: there is no metric name`)
		require.Equal(t, []string{floatLine(labels.FromStrings("__name__", "a", "cluster", "eu"), base, 1)}, b.read(t, "", matching(".+")))
	}
	require.EqualValues(t, 2, b.metric(t, "promkeep_remote_write_dropped_samples_total", "relabelling"))
}
