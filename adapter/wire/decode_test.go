package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// seeds is how many random requests are made: fewer where each costs ten times as much, under the race detector.
func seeds() uint64 {
	if testing.Short() {
		return 600
	}
	return 3000
}

// TestV1AsPrompb: whatever a request holds and however it is written, the decoder reads what prompb reads.
func TestV1AsPrompb(t *testing.T) {
	var d V1 // the same for all, so that nothing of one request shows in the next
	for seed := range seeds() {
		r := newRandom(seed)
		request, err := r.requestV1().Marshal()
		require.NoError(t, err)
		if seed%2 == 1 {
			request = r.scramble(request, layoutV1)
		}
		var req prompb.WriteRequest
		require.NoError(t, req.Unmarshal(request))
		got, err := dumpDecoded(&d, request)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, dumpV1(&req), got, "seed %d", seed)
		require.False(t, d.Foreign())
	}
}

// TestV2AsWritev2 is the same for 2.0.
func TestV2AsWritev2(t *testing.T) {
	var d V2
	for seed := range seeds() {
		r := newRandom(seed)
		request, err := r.requestV2().Marshal()
		require.NoError(t, err)
		if seed%2 == 1 {
			request = r.scramble(request, layoutV2)
		}
		var req writev2.Request
		require.NoError(t, req.Unmarshal(request))
		got, err := dumpDecoded(&d, request)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, dumpV2(&req), got, "seed %d", seed)
	}
}

// TestTruncated: a request cut anywhere but between top-level fields is refused, at an offset within what is left.
func TestTruncated(t *testing.T) {
	r := newRandom(7)
	v1, err := r.requestV1().Marshal()
	require.NoError(t, err)
	v2, err := r.requestV2().Marshal()
	require.NoError(t, err)
	for _, c := range []struct {
		d       decoder
		request []byte
	}{{new(V1), v1}, {new(V2), v2}} {
		boundary := map[int]bool{0: true}
		for i := 0; i < len(c.request); {
			tg, j := tag(c.request, i)
			i = skip(c.request, j, tg)
			boundary[i] = true
		}
		for n := range c.request {
			if testing.Short() && n%5 > 0 && !boundary[n] {
				continue
			}
			_, err := dumpDecoded(c.d, c.request[:n])
			if boundary[n] {
				require.NoError(t, err)
				continue
			}
			var e *Error
			require.ErrorAs(t, err, &e, "%T cut at %d of %d", c.d, n, len(c.request))
			require.LessOrEqual(t, e.Offset, n)
		}
	}
}

func message(fields ...[]byte) []byte { return bytes.Join(fields, nil) }

func bytesField(number uint64, body []byte) []byte {
	b := binary.AppendUvarint(nil, number<<3|typeBytes)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func varintField(number, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|typeVarint), v)
}

func labelField(name, value string) []byte {
	return bytesField(1, message(bytesField(1, []byte(name)), bytesField(2, []byte(value))))
}

// TestRefused: what is not well-formed is refused with where and why.
func TestRefused(t *testing.T) {
	series := func(body ...[]byte) []byte { return bytesField(1, message(body...)) }
	good := series(labelField("__name__", "up"))
	big := binary.AppendUvarint([]byte{1<<3 | typeBytes}, 1<<40)
	for _, c := range []struct {
		name    string
		d       decoder
		request []byte
		want    string
	}{
		{"group", new(V1), message(good, []byte{9<<3 | 3, 9<<3 | 4}), "at offset 18: a field is a group"},
		{"group in a series", new(V1), message(good, series([]byte{9<<3 | 3})), "at offset 20, in time series 1: a field is a group"},
		{"field 0", new(V1), []byte{0, 0}, "at offset 0: a field number"},
		{"field 2^29", new(V1), append(binary.AppendUvarint(nil, 1<<32), 0), "a field number"},
		{"length past the end", new(V1), big, "at offset 0: a field reaches past the end"},
		{"length of 2^63", new(V1), append([]byte{1<<3 | typeBytes}, bytes.Repeat([]byte{0xff}, 9)...), "a field reaches past the end"},
		{"varint of 65 bits", new(V1), series(bytesField(2, append([]byte{2 << 3}, append(bytes.Repeat([]byte{0xff}, 9), 2)...))), "more than 64 bits"},
		{"series as a number", new(V1), varintField(1, 1), "wrong wire type"},
		{"labels as a number", new(V1), series(varintField(1, 1)), "wrong wire type"},
		{"exemplar labels as a number", new(V1), series(bytesField(3, varintField(1, 1))), "wrong wire type"},
		{"too many buckets", new(V1), series(bytesField(4, bytesField(12, make([]byte, MaxBuckets+1)))), "more than 65536 spans"},
		{"no empty symbol", new(V2), message(bytesField(4, []byte("up")), bytesField(5, nil)), "the first symbol is not the empty string"},
		{"no symbols", new(V2), message(bytesField(5, nil)), "the first symbol is not the empty string"},
		{"too many symbols", new(V2), bytes.Repeat(bytesField(4, nil), MaxSymbols+1), "more than 1048576 symbols"},
		{"reference of 65 bits", new(V2), message(bytesField(4, nil), bytesField(5, bytesField(1, append(bytes.Repeat([]byte{0xff}, 9), 2)))), "more than 64 bits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dumpDecoded(c.d, c.request)
			require.ErrorContains(t, err, c.want)
			require.False(t, c.d.Next())
			require.Error(t, c.d.Err())
		})
	}
}

// TestKeys: a key depends on all labels and their order, and on nothing else.
func TestKeys(t *testing.T) {
	sample := bytesField(2, varintField(2, now))
	a, b, c := labelField("__name__", "up"), labelField("job", "x"), labelField("joba", "y")
	keyOf := func(fields ...[]byte) Key {
		var d V1
		require.NoError(t, d.Reset(bytesField(1, message(fields...))))
		require.True(t, d.Next())
		return d.Key()
	}
	want := keyOf(a, b, c)
	require.Equal(t, want, keyOf(a, b, c, sample))
	require.Equal(t, want, keyOf(sample, a, b, c))
	require.Equal(t, want, keyOf(a, sample, b, sample, c), "scattered labels")
	require.Equal(t, want, keyOf(a, b, c, bytesField(99, []byte("x"))))
	for _, other := range []Key{keyOf(a, c, b), keyOf(a, b), keyOf(), keyOf(a, b, labelField("joba", "z")), keyOf(a, labelField("jo", "bx"), c)} {
		require.NotEqual(t, want, other)
		require.NotEqual(t, want[0], other[0])
		require.NotEqual(t, want[1], other[1])
	}

	keyOfV2 := func(symbols []string, refs ...uint32) Key {
		var d V2
		request, err := (&writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{{LabelsRefs: refs}}}).Marshal()
		require.NoError(t, err)
		require.NoError(t, d.Reset(request))
		require.True(t, d.Next())
		require.NoError(t, d.SeriesErr())
		return d.Key()
	}
	want = keyOfV2([]string{"", "__name__", "up", "job", "x"}, 1, 2, 3, 4)
	require.Equal(t, want, keyOfV2([]string{"", "x", "job", "other", "up", "__name__"}, 5, 4, 2, 1), "symbols in another order")
	for _, other := range []Key{
		keyOfV2([]string{"", "__name__", "up", "job", "x"}, 3, 4, 1, 2),
		keyOfV2([]string{"", "__name__", "up", "job", "y"}, 1, 2, 3, 4),
		keyOfV2([]string{"", "__name__", "up", "jobx", ""}, 1, 2, 3, 4),
		keyOfV2([]string{"", "__name__", "up"}, 1, 2),
	} {
		require.NotEqual(t, want[0], other[0])
		require.NotEqual(t, want[1], other[1])
	}
}

// TestNoLabelsOfHostileSeries: a series with more labels than MaxLabels is counted, but neither remembered nor hashed.
func TestNoLabelsOfHostileSeries(t *testing.T) {
	symbols := message(bytesField(4, nil), bytesField(4, []byte("a")))
	request := message(symbols, bytesField(5, bytesField(1, bytes.Repeat([]byte{1}, 2_000_000))))
	var d V2
	require.NoError(t, d.Reset(request))
	require.True(t, d.Next())
	require.Equal(t, 1_000_000, d.LabelCount())
	require.LessOrEqual(t, cap(d.refs), 4*MaxLabels)
	require.Equal(t, Key{}, d.Key())

	request = bytesField(1, bytes.Repeat(labelField("", ""), 1_000_000))
	var d1 V1
	require.NoError(t, d1.Reset(request))
	require.True(t, d1.Next())
	require.Equal(t, 1_000_000, d1.LabelCount())
	ls, err := d1.Labels(nil, 5)
	require.NoError(t, err)
	require.Len(t, ls, 5)
}

func TestForeign(t *testing.T) {
	v1, err := singleSamples(3).Marshal()
	require.NoError(t, err)
	v2, err := singleSamplesV2(3).Marshal()
	require.NoError(t, err)
	for _, c := range []struct {
		d       decoder
		request []byte
		want    bool
	}{{new(V1), v1, false}, {new(V1), v2, true}, {new(V2), v1, true}, {new(V2), v2, false}, {new(V1), nil, false}, {new(V2), nil, false}} {
		require.NoError(t, c.d.Reset(c.request))
		for c.d.Next() {
		}
		require.NoError(t, c.d.Err())
		require.Equal(t, c.want, c.d.Foreign())
	}
}

// TestMetadataOnce: the metadata of series that follow each other is told once for each metric.
func TestMetadataOnce(t *testing.T) {
	st := writev2.NewSymbolTable()
	var req writev2.Request
	add := func(metric, help string, i int) {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{st.Symbolize("A"), st.Symbolize(fmt.Sprint(i)), st.Symbolize("__name__"), st.Symbolize(metric)},
			Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: st.Symbolize(help), UnitRef: st.Symbolize("bytes")},
		})
	}
	for i, s := range []string{"a", "a", "b", "b", "b", "a"} {
		add(s, "help of "+s, i)
	}
	add("a", "other help", 9)
	req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{st.Symbolize("__name__"), st.Symbolize("c")}})
	req.Symbols = st.Symbols()
	request, err := req.Marshal()
	require.NoError(t, err)
	var d V2
	require.NoError(t, d.Reset(request))
	var got []string
	for d.Next() {
		if m, ok := d.Metadata(); ok {
			got = append(got, fmt.Sprintf("%d %d %s %s %s", d.Index(), m.Type, m.Metric, m.Help, m.Unit))
		}
	}
	require.Equal(t, []string{"0 2 a help of a bytes", "2 2 b help of b bytes", "5 2 a help of a bytes", "6 2 a other help bytes"}, got)
}

// TestSteadyStateDoesNotAllocate: neither for series, samples, histograms nor exemplars.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	for name, c := range map[string]struct {
		d       decoder
		request interface{ Marshal() ([]byte, error) }
	}{
		"1.0": {new(V1), singleSamples(100)}, "2.0": {new(V2), singleSamplesV2(100)},
		"all of 1.0": {new(V1), newRandom(11).requestV1()}, "all of 2.0": {new(V2), newRandom(12).requestV2()},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := c.request.Marshal()
			require.NoError(t, err)
			var ls []Label
			n := testing.AllocsPerRun(20, func() {
				if c.d.Reset(request) != nil {
					t.Fatal()
				}
				for c.d.Next() {
					if c.d.SeriesErr() != nil {
						continue
					}
					c.d.Key()
					for c.d.NextSample() {
					}
					for c.d.NextHistogram() {
						c.d.Histogram()
					}
					for c.d.NextExemplar() {
						ls, _ = c.d.ExemplarLabels(ls[:0], 100)
					}
				}
			})
			require.Zero(t, n)
			require.NoError(t, c.d.Err())
		})
	}
}
