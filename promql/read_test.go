package promql

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/golang/snappy"
	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

var responseTypes = map[string]prompb.ReadRequest_ResponseType{
	"samples": prompb.ReadRequest_SAMPLES,
	"chunks":  prompb.ReadRequest_STREAMED_XOR_CHUNKS,
}

// remoteRead reads with upstream's client and prints one line per sample.
func remoteRead(t *testing.T, s *testServer, path string, typ prompb.ReadRequest_ResponseType, mint, maxt time.Time, ms ...*labels.Matcher) ([]string, error) {
	t.Helper()
	u, err := url.Parse(s.URL + path)
	require.NoError(t, err)
	client, err := remote.NewReadClient("test", &remote.ClientConfig{
		URL:                   &configutil.URL{URL: u},
		Timeout:               model.Duration(time.Minute),
		ChunkedReadLimit:      1 << 20,
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ},
	}, configutil.WithKeepAlivesDisabled())
	require.NoError(t, err)
	query, err := remote.ToQuery(mint.UnixMilli(), maxt.UnixMilli(), ms, &storage.SelectHints{Start: mint.UnixMilli(), End: maxt.UnixMilli()})
	require.NoError(t, err)
	set, err := client.Read(context.Background(), query, false)
	if err != nil {
		return nil, err
	}
	var out []string
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		it = series.Iterator(it)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			switch typ {
			case chunkenc.ValFloat:
				ts, v := it.At()
				out = append(out, fmt.Sprintf("%s %d %v", series.Labels(), ts, v))
			case chunkenc.ValHistogram:
				ts, h := it.AtHistogram(nil)
				out = append(out, fmt.Sprintf("%s %d %s", series.Labels(), ts, h))
			case chunkenc.ValFloatHistogram:
				ts, h := it.AtFloatHistogram(nil)
				out = append(out, fmt.Sprintf("%s %d float %s", series.Labels(), ts, h))
			}
		}
		require.NoError(t, it.Err())
	}
	return out, set.Err()
}

func TestRemoteRead(t *testing.T) {
	s := serve(t)
	eq := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	for name, typ := range responseTypes {
		for _, path := range []string{"/api/v1/read", "/read"} {
			t.Run(name+path, func(t *testing.T) {
				var want []string
				for _, series := range served[:3] {
					for i := range samples {
						want = append(want, fmt.Sprintf("%s %d %v", series.labels, s.at(i).UnixMilli(), series.value(i)))
					}
				}
				got, err := remoteRead(t, s, path, typ, s.at(0), s.at(samples), eq("__name__", "up"))
				require.NoError(t, err)
				require.Equal(t, want, got)
			})
		}
		t.Run(name+" of a range", func(t *testing.T) {
			got, err := remoteRead(t, s, "/read", typ, s.at(118), s.at(121), eq("__name__", "requests_total"), eq("cluster", "a"))
			require.NoError(t, err)
			var want []string
			for i := 118; i <= 121; i++ {
				want = append(want, fmt.Sprintf("%s %d %v", served[3].labels, s.at(i).UnixMilli(), 3*i))
			}
			require.Equal(t, want, got)
		})
		t.Run(name+" of nothing", func(t *testing.T) {
			got, err := remoteRead(t, s, "/read", typ, s.at(0), s.at(samples), eq("__name__", "absent"))
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
}

// TestRemoteReadOfStartTimestampsAndHistograms reads what is stored in encodings that no reader of the protocol knows.
func TestRemoteReadOfStartTimestampsAndHistograms(t *testing.T) {
	s := serve(t)
	counter, hist, floats := labels.FromStrings("__name__", "c"), labels.FromStrings("__name__", "h"), labels.FromStrings("__name__", "fh")
	a := (&tenantStorage{store: s.store, stage: merged}).AppenderV2(context.Background())
	want := map[string][]string{}
	for i := range 200 {
		ts, st := s.at(i).UnixMilli(), s.at(i-i%50-1).UnixMilli()
		h, fh := tsdbutil.GenerateTestHistogram(int64(i)), tsdbutil.GenerateTestFloatHistogram(int64(i))
		_, err := a.Append(0, counter, st, ts, float64(i), nil, nil, storage.AppendV2Options{})
		require.NoError(t, err)
		_, err = a.Append(0, hist, st, ts, 0, h, nil, storage.AppendV2Options{})
		require.NoError(t, err)
		_, err = a.Append(0, floats, st, ts, 0, nil, fh, storage.AppendV2Options{})
		require.NoError(t, err)
		want["c"] = append(want["c"], fmt.Sprintf("%s %d %d", counter, ts, i))
		want["h"] = append(want["h"], fmt.Sprintf("%s %d %s", hist, ts, h))
		want["fh"] = append(want["fh"], fmt.Sprintf("%s %d float %s", floats, ts, fh))
	}
	require.NoError(t, a.Commit())
	for name, typ := range responseTypes {
		for metric, lines := range want {
			t.Run(name+" "+metric, func(t *testing.T) {
				got, err := remoteRead(t, s, "/read", typ, s.at(0), s.at(samples), labels.MustNewMatcher(labels.MatchEqual, "__name__", metric))
				require.NoError(t, err)
				require.Equal(t, lines, got)
			})
		}
	}
}

func TestRemoteReadLimits(t *testing.T) {
	s := serve(t)
	up := labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")
	t.Run("samples", func(t *testing.T) {
		small := serveOver(t, s.store, func(o *Options) { o.ReadSampleLimit = 3*samples - 1 })
		_, err := remoteRead(t, small, "/read", prompb.ReadRequest_SAMPLES, s.at(0), s.at(samples), up)
		require.ErrorContains(t, err, "400")
		require.ErrorContains(t, err, "exceeded sample limit")
		got, err := remoteRead(t, small, "/read", prompb.ReadRequest_STREAMED_XOR_CHUNKS, s.at(0), s.at(samples), up)
		require.NoError(t, err, "a stream has no such limit")
		require.Len(t, got, 3*samples)
	})
	t.Run("frames", func(t *testing.T) {
		frames := func(limit int) (n int) {
			small := serveOver(t, s.store, func(o *Options) { o.ReadMaxBytesInFrame = limit })
			body := readRequest(t, prompb.ReadRequest_STREAMED_XOR_CHUNKS, &prompb.Query{
				StartTimestampMs: s.at(0).UnixMilli(), EndTimestampMs: s.at(samples).UnixMilli(),
				Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "requests_total"}},
			})
			resp, err := small.Client().Post(small.URL+"/api/v1/read", "application/x-protobuf", bytes.NewReader(body))
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse", resp.Header.Get("Content-Type"))
			stream := remote.NewChunkedReader(resp.Body, 1<<20, nil)
			for {
				var frame prompb.ChunkedReadResponse
				err := stream.NextProto(&frame)
				if err == io.EOF {
					return n
				}
				require.NoError(t, err)
				require.Len(t, frame.ChunkedSeries, 1)
				n++
			}
		}
		require.Equal(t, 2, frames(1<<20), "one per series")
		require.Equal(t, 4, frames(1), "one per chunk of 120 samples")
	})
	t.Run("a bomb", func(t *testing.T) {
		// A few bytes that say they are 2 GB once decoded.
		a := s.raw(t, "POST /read HTTP/1.1", string([]byte{0x80, 0x80, 0x80, 0x80, 0x08, 0, 0}))
		require.Equal(t, 400, a.code)
		require.Contains(t, a.body, "exceeds limit")
	})
	for name, body := range map[string][]byte{
		"no snappy":   []byte("hello"),
		"no protobuf": snappy.Encode(nil, []byte{0xff, 0xff}),
		"a wrong regular expression": readRequest(t, prompb.ReadRequest_SAMPLES,
			&prompb.Query{Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "a", Value: "("}}}),
		"an unknown answer": readRequest(t, 77),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, 400, s.raw(t, "POST /read HTTP/1.1", string(body)).code)
		})
	}
}

func readRequest(t *testing.T, typ prompb.ReadRequest_ResponseType, queries ...*prompb.Query) []byte {
	t.Helper()
	b, err := (&prompb.ReadRequest{Queries: queries, AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ}}).Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, b)
}

// TestRemoteReadFaults: a fault before the first frame has a status; after it the stream is cut off, not ended.
func TestRemoteReadFaults(t *testing.T) {
	s := serve(t)
	up := labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")
	away := passing{fmt.Errorf("connection refused")}
	for name, typ := range responseTypes {
		t.Run(name, func(t *testing.T) {
			f := serveOver(t, s.store, func(o *Options) { o.Queryable = breaking{s.store, 0, away} })
			_, err := remoteRead(t, f, "/read", typ, s.at(0), s.at(samples), up)
			require.ErrorContains(t, err, "503")
		})
	}
	t.Run("after the first series", func(t *testing.T) {
		f := serveOver(t, s.store, func(o *Options) { o.Queryable, o.ReadMaxBytesInFrame = breaking{s.store, 1, away}, 1 })
		_, err := remoteRead(t, f, "/read", prompb.ReadRequest_STREAMED_XOR_CHUNKS, s.at(0), s.at(samples), up)
		require.Error(t, err)
	})
}

// breaking gives the first series of a result and then fails.
type breaking struct {
	storage.SampleAndChunkQueryable
	after int
	err   error
}

func (b breaking) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := b.SampleAndChunkQueryable.Querier(mint, maxt)
	return faultyQuerier{q, b.err}, err
}

func (b breaking) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := b.SampleAndChunkQueryable.ChunkQuerier(mint, maxt)
	return breakingQuerier{q, b}, err
}

type breakingQuerier struct {
	storage.ChunkQuerier
	b breaking
}

func (q breakingQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	return &breakingSet{q.ChunkQuerier.Select(ctx, sorted, hints, ms...), q.b, 0}
}

type breakingSet struct {
	storage.ChunkSeriesSet
	b breaking
	n int
}

func (s *breakingSet) Next() bool {
	s.n++
	return s.n <= s.b.after && s.ChunkSeriesSet.Next()
}

func (s *breakingSet) Err() error { return s.b.err }

func TestFederate(t *testing.T) {
	s := serve(t)
	federate := func(query, accept string) answer {
		req, err := http.NewRequest(http.MethodGet, s.URL+"/federate?"+query, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", accept)
		resp, err := s.Client().Do(req)
		require.NoError(t, err)
		return read(t, resp)
	}
	ts := s.at(samples - 1).UnixMilli()
	for accept, label := range map[string]string{
		"": "http_status_code", // escaped for readers that do not say they know better
		"text/plain;version=1.0.0;escaping=allow-utf-8": `"http.status_code"`,
	} {
		a := federate("match[]=up{cluster=%22b%22}&match[]=spans&match[]=up{job=%22node%22}", accept)
		require.Equal(t, 200, a.code, a.body)
		require.Equal(t, fmt.Sprintf(`# TYPE spans untyped
spans{%s="200",instance=""} %d %d
# TYPE up untyped
up{cluster="b",instance="one:9090",job="prometheus"} 1 %[3]d
up{cluster="b",instance="two:9100",job="node"} 0 %[3]d
`, label, (samples-1)%7, ts), a.body)
	}
	require.Equal(t, 400, s.get(t, "/federate?match[]=up{").code)
	require.Empty(t, s.get(t, "/federate").body)

	t.Run("histograms need protobuf", func(t *testing.T) {
		app := (&tenantStorage{store: s.store}).AppenderV2(context.Background())
		now := time.Now().UnixMilli()
		_, err := app.Append(0, labels.FromStrings("__name__", "native"), 0, now, 0, tsdbutil.GenerateTestHistogram(1), nil, storage.AppendV2Options{})
		require.NoError(t, err)
		_, err = app.Append(0, labels.FromStrings("__name__", "custom"), 0, now, 0, tsdbutil.GenerateTestCustomBucketsHistogram(1), nil, storage.AppendV2Options{})
		require.NoError(t, err)
		require.NoError(t, app.Commit())
		text := s.get(t, "/federate?match[]=native&match[]=custom").body
		require.NotContains(t, text, "native")
		require.Contains(t, text, `custom_bucket{instance="",le="+Inf"}`)
		body := federate("match[]=native&match[]=custom", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text").body
		require.Regexp(t, `name: +"native"`, body)
		require.Contains(t, body, "positive_span")
	})
}
