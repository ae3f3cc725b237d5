package promql

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/storage/pgtest"
)

var peerQueries = flag.Int("peer.queries", 2000, "how many queries to ask of a real Prometheus too; the seed is -differential.seed")

// peerProgram is the Prometheus of the release that the engine is from. make test builds it and names it in the
// environment; elsewhere the test that wants it is skipped when it is not there.
func peerProgram(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PROMKEEP_TEST_PROMETHEUS"); path != "" {
		require.FileExists(t, path, "PROMKEEP_TEST_PROMETHEUS")
		return path
	}
	path, err := filepath.Abs("../bin/peers/prometheus")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no Prometheus of this release to compare with; make bin/peers/prometheus builds one")
	}
	return path
}

// TestDifferentialPrometheus sends one stream of remote writes, of both protocols, to promkeep and to real Prometheus servers of
// the engine's release, and asks all over HTTP: thousands of generated queries, and series, labels and remote reads. The
// answers must be the same to the last digit, which is to say bit.
func TestDifferentialPrometheus(t *testing.T) {
	program := peerProgram(t)
	seed := *differentialSeed
	delayed := []bool{false, true} // one pair of servers each
	pairs := make([]*peers, len(delayed))
	keep := openStore(t, pgtest.New(t))
	for i := range pairs {
		pairs[i] = newPeers(t, program, keep, delayed[i])
	}

	write := httptest.NewServer(adapter.NewWriteHandler(adapter.NewStore(keep.DB), adapter.Options{}))
	t.Cleanup(write.Close)
	targets := []string{write.URL + "/api/v1/write"}
	for _, p := range pairs {
		targets = append(targets, p.prometheus+"/api/v1/write")
	}
	requests, n := 0, 0
	for i, batch := range differentialData(seed) {
		for samples := range slices.Chunk(batch.samples, 10_000) {
			requests++
			n += len(samples)
			body, v2 := encodeV1(t, samples), false
			if requests%2 == 0 {
				body, v2 = encodeV2(t, samples), true
			}
			for _, target := range targets {
				postWrite(t, target, body, v2)
			}
		}
		require.NoError(t, keep.moveTo(context.Background(), batch.to), "batch %d", i)
	}
	t.Logf("seed %d: %d samples in %d requests", seed, n, requests)

	start, length := differentialStart.Unix(), int64(differentialLength.Seconds())
	g := newGenerator(seed+1<<32, start, length) // not the queries of the test in process
	outcomes := map[string]int{}
	for i := range *peerQueries {
		p := pairs[i%len(pairs)]
		run := randomEvaluation(g)
		query := g.query(run.instant)
		verdict := p.compare(t, run, query.String())
		outcomes[verdict.outcome]++
		if verdict.difference == "" {
			continue
		}
		small := shrink(query, func(e *expr) bool { return p.compare(t, run, e.String()).difference != "" })
		t.Errorf("-differential.seed=%d, query %d, delayed name removal %v, %s:\n%s\nsmallest: %s\n%s",
			seed, i, delayed[i%len(pairs)], run, query, small, p.compare(t, run, small.String()).difference)
		if outcomes["different"] >= 10 {
			break
		}
	}
	t.Logf("outcomes: %v", outcomes)
	for i := range *peerQueries / 20 {
		pairs[0].compareLabels(t, g, i)
		pairs[0].compareRead(t, g, i)
	}
	if t.Failed() {
		return
	}
	require.Less(t, outcomes[undecided], *peerQueries/20)
	require.Greater(t, outcomes["series"], *peerQueries/4, "too few of the queries have an answer to tell anything")
}

// peers are a Prometheus and a promkeep with the same features.
type peers struct {
	prometheus string // base URL
	promkeep   string
	sorted     string // promkeep, its series sorted by labels
	shuffled   string // promkeep, its series in another order at each query
}

func newPeers(t *testing.T, program string, keep *store, delayed bool) *peers {
	const maxSamples = 2_000_000
	features := "promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers"
	if delayed {
		features += ",promql-delayed-name-removal"
	}
	config := fmt.Sprintf("storage: {tsdb: {out_of_order_time_window: %s}}\n", 2*differentialLength)
	p := &peers{prometheus: startProgram(t, program, config, "--web.enable-remote-write-receiver", "--enable-feature="+features,
		"--query.max-samples="+strconv.Itoa(maxSamples), "--storage.tsdb.retention.time=100y")}
	for to, over := range map[*string]storage.SampleAndChunkQueryable{
		&p.promkeep: keep, &p.sorted: orderedStorage{keep, false}, &p.shuffled: orderedStorage{keep, true},
	} {
		engine := NewEngine(EngineOptions{MaxSamples: maxSamples,
			Features: Features{Parser: promqltest.TestParserOpts, DelayedNameRemoval: delayed}})
		t.Cleanup(func() { require.NoError(t, engine.Close()) })
		*to = serveOver(t, keep, func(o *Options) { o.Engine, o.Queryable = engine, over }).URL
	}
	return p
}

// verdict is what a comparison says: a difference, or what kind of answer both gave.
type verdict struct{ difference, outcome string }

const undecided = "undecided by the engine"

// compare asks both. Of what the engine does not decide, such as ties of topk, or what depends on the order in which a storage
// gives its series, such as the last bit of a sum, any answer is right that promkeep gives when its series come in some other
// order, or that either gives another time; and where Prometheus picks other series each time, any.
func (p *peers) compare(t *testing.T, v evaluation, query string) verdict {
	want, got := p.askBoth(t, v, query)
	out := verdict{outcome: want.kind()}
	if want.equal(got) {
		return out
	}
	ours, theirs := variants{}, variants{}
	ours.add(got)
	theirs.add(want)
	ours.add(askQuery(t, p.sorted, v, query))
	for range 3 * repeats {
		if ours.allow(want) || theirs.allow(got) || len(theirs[""]) > 1 {
			return verdict{outcome: undecided}
		}
		ours.add(askQuery(t, p.shuffled, v, query))
		theirs.add(askQuery(t, p.prometheus, v, query))
	}
	return verdict{outcome: "different", difference: want.diff(got)}
}

func (p *peers) askBoth(t *testing.T, v evaluation, query string) (want, got peerAnswer) {
	var wg sync.WaitGroup
	wg.Go(func() { want = askQuery(t, p.prometheus, v, query) })
	wg.Go(func() { got = askQuery(t, p.promkeep, v, query) })
	wg.Wait()
	return want, got
}

// peerAnswer is an answer of the API.
type peerAnswer struct {
	Status, ErrorType, Error string
	Warnings, Infos          []string
	Data                     struct {
		ResultType string
		Result     json.RawMessage
	}
	code  int
	lines []string // of the result: labels and points as they were sent; those of a vector sorted
}

func askQuery(t *testing.T, base string, v evaluation, query string) (a peerAnswer) {
	form := url.Values{"query": {query}}
	path := "/api/v1/query"
	if v.instant {
		form.Set("time", millis(v.start))
	} else {
		path = "/api/v1/query_range"
		form.Set("start", millis(v.start))
		form.Set("end", millis(v.end))
		form.Set("step", strconv.FormatFloat(v.step.Seconds(), 'f', -1, 64))
	}
	resp, err := http.PostForm(base+path, form)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return a
	}
	defer resp.Body.Close()
	a.code = resp.StatusCode
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Errorf("%s: %v", query, err)
	}
	// Beyond ten, which of them are shown is left to chance.
	for _, annotations := range []*[]string{&a.Warnings, &a.Infos} {
		slices.Sort(*annotations)
		if len(*annotations) > 10 {
			*annotations = []string{fmt.Sprint(len(*annotations), " annotations")}
		}
	}
	var series []json.RawMessage
	switch a.Data.ResultType {
	case "vector", "matrix":
		if err := json.Unmarshal(a.Data.Result, &series); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		for _, s := range series {
			a.lines = append(a.lines, string(s))
		}
		if !strings.HasPrefix(query, "sort") {
			slices.Sort(a.lines)
		}
	default:
		a.lines = []string{string(a.Data.Result)}
	}
	return a
}

func millis(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }

// duplicates is an error that names the first two of many series, in an order that is the storage's.
var duplicates = regexp.MustCompile(`(found duplicate series for the match group).*( on the .* hand-side of the operation: ).*(;many-to-many)`)

func (a peerAnswer) head() string {
	text := duplicates.ReplaceAllString(a.Error, "$1$2$3")
	return fmt.Sprintf("%d %s %s %s %q %q", a.code, a.ErrorType, text, a.Data.ResultType, a.Warnings, a.Infos)
}

func (a peerAnswer) equal(b peerAnswer) bool {
	return a.head() == b.head() && slices.Equal(a.lines, b.lines)
}

func (a peerAnswer) kind() string {
	switch {
	case a.ErrorType != "":
		return a.ErrorType
	case a.Data.ResultType != "vector" && a.Data.ResultType != "matrix":
		return "scalar"
	case len(a.lines) == 0:
		return "empty"
	}
	return "series"
}

func (a peerAnswer) diff(b peerAnswer) string {
	var out []string
	if a.head() != b.head() {
		out = append(out, "prometheus: "+a.head(), "promkeep:   "+b.head())
	}
	for _, line := range a.lines {
		if !slices.Contains(b.lines, line) {
			out = append(out, "prometheus: "+line)
		}
	}
	for _, line := range b.lines {
		if !slices.Contains(a.lines, line) {
			out = append(out, "promkeep:   "+line)
		}
	}
	if len(out) == 0 {
		return "the order differs"
	}
	if len(out) > 12 {
		out = append(out[:12], "…")
	}
	for i, line := range out {
		if len(line) > 400 {
			out[i] = line[:400] + "…"
		}
	}
	return strings.Join(out, "\n")
}

// variants are the answers of one server to one query: how it begins, and by series and time the values seen.
type variants map[string]map[string]bool

func (v variants) add(a peerAnswer) {
	for key, value := range a.parts() {
		if v[key] == nil {
			v[key] = map[string]bool{}
		}
		v[key][value] = true
	}
	if v[""] == nil {
		v[""] = map[string]bool{}
	}
	v[""][a.shape()] = true
}

// allow tells whether an answer is made of what was seen. A value that did not come up is allowed where several others did and it
// is no further from them than they are from each other.
func (v variants) allow(a peerAnswer) bool {
	if !v[""][a.shape()] {
		return false
	}
	for key, value := range a.parts() {
		if v[key][value] {
			continue
		}
		y, err := strconv.ParseFloat(value, 64)
		low, high := math.Inf(1), math.Inf(-1)
		for seen := range v[key] {
			x, errSeen := strconv.ParseFloat(seen, 64)
			if err != nil || errSeen != nil {
				return false
			}
			low, high = min(low, x), max(high, x)
		}
		if spread := high - low; !(spread > 0 && y >= low-spread && y <= high+spread) {
			return false
		}
	}
	return true
}

// shape is what an answer says beside its values, and which series and times it has.
func (a peerAnswer) shape() string {
	h := fnv.New64a()
	for _, key := range slices.Sorted(maps.Keys(a.parts())) {
		io.WriteString(h, key) //nolint:errcheck // It has no errors.
	}
	return fmt.Sprintf("%s %x", a.head(), h.Sum64())
}

// parts are the values by series and time.
func (a peerAnswer) parts() map[string]string {
	out := map[string]string{}
	for i, line := range a.lines {
		var s struct {
			Metric             map[string]string
			Value, Histogram   []json.RawMessage
			Values, Histograms [][]json.RawMessage
		}
		if json.Unmarshal([]byte(line), &s) != nil || s.Metric == nil {
			out[strconv.Itoa(i)] = line
			continue
		}
		name := fmt.Sprint(s.Metric)
		points := append(slices.Clone(s.Values), s.Histograms...)
		points = append(points, s.Value, s.Histogram)
		for _, p := range points {
			if len(p) == 2 {
				out[name+" "+string(p[0])] = strings.Trim(string(p[1]), `"`)
			}
		}
	}
	return out
}

// compareLabels asks for series, labels and values over all the time there is: over less, Prometheus answers by the borders of
// its chunks.
func (p *peers) compareLabels(t *testing.T, g *generator, i int) {
	form := url.Values{"start": {unix(differentialStart)}, "end": {unix(differentialStart.Add(differentialLength))}}
	for range 1 + g.IntN(2) {
		form.Add("match[]", g.selector())
	}
	for _, path := range []string{"/series", "/labels", "/label/job/values", "/label/pod/values", "/label/__name__/values"} {
		ask := func(base string) (out []string) {
			resp, err := http.Get(base + "/api/v1" + path + "?" + form.Encode())
			require.NoError(t, err)
			var list []json.RawMessage
			require.NoError(t, json.Unmarshal(read(t, resp).Data, &list))
			for _, x := range list {
				out = append(out, string(x))
			}
			slices.Sort(out) // The order of series is the storage's.
			return out
		}
		require.Equal(t, ask(p.prometheus), ask(p.promkeep), "-differential.seed=%d, %d: %s %s", *differentialSeed, i, path, form)
	}
}

// compareRead reads the same from both with remote read, of either type.
func (p *peers) compareRead(t *testing.T, g *generator, i int) {
	matchers, err := parser.NewParser(promqltest.TestParserOpts).ParseMetricSelector(g.selector())
	require.NoError(t, err)
	from := differentialStart.Add(time.Duration(g.Int64N(int64(differentialLength))))
	to := from.Add(time.Duration(g.Int64N(int64(time.Hour))))
	for name, typ := range responseTypes {
		var lines [2][]string
		for k, base := range []string{p.prometheus, p.promkeep} {
			lines[k], err = remoteRead(t, &testServer{Server: &httptest.Server{URL: base}}, "/api/v1/read", typ, from, to, matchers...)
			require.NoError(t, err)
		}
		require.Equal(t, lines[0], lines[1], "-differential.seed=%d, %d: %s of %v from %s to %s", *differentialSeed, i, name, matchers, from, to)
	}
}

// orderedStorage gives series sorted by labels, or in another order each time.
type orderedStorage struct {
	storage.SampleAndChunkQueryable
	shuffle bool
}

func (s orderedStorage) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.SampleAndChunkQueryable.Querier(mint, maxt)
	return orderedQuerier{q, s.shuffle}, err
}

type orderedQuerier struct {
	storage.Querier
	shuffle bool
}

func (q orderedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := q.Querier.Select(ctx, true, hints, ms...)
	if sorted || !q.shuffle {
		return set
	}
	out := &shuffledSet{SeriesSet: set, at: -1}
	for set.Next() {
		out.series = append(out.series, set.At())
	}
	rand.Shuffle(len(out.series), func(a, b int) { out.series[a], out.series[b] = out.series[b], out.series[a] })
	return out
}

type shuffledSet struct {
	storage.SeriesSet
	series []storage.Series
	at     int
}

func (s *shuffledSet) Next() bool         { s.at++; return s.at < len(s.series) }
func (s *shuffledSet) At() storage.Series { return s.series[s.at] }

func postWrite(t *testing.T, target string, body []byte, v2 bool) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, target, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Encoding", "snappy")
	if v2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, resp.StatusCode, "%s: %s", target, answer)
}

// runs calls f with what lies together in a request: samples of one series in their order, floats or histograms.
func runs(samples []dataSample, f func(run []dataSample)) {
	places := map[string]int{}
	var all [][]dataSample
	for _, s := range samples {
		key := s.labels.String()
		i, ok := places[key]
		if ok {
			last := all[i][len(all[i])-1]
			ok = (last.h == nil && last.fh == nil) == (s.h == nil && s.fh == nil)
		}
		if !ok {
			i = len(all)
			places[key] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], s)
	}
	// In the order of their labels, so that the series are created in it: head and blocks of Prometheus then agree on it.
	slices.SortStableFunc(all, func(a, b []dataSample) int { return labels.Compare(a[0].labels, b[0].labels) })
	for _, run := range all {
		f(run)
	}
}

func encodeV1(t *testing.T, samples []dataSample) []byte {
	var req prompb.WriteRequest
	runs(samples, func(run []dataSample) {
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(run[0].labels, nil)}
		for _, s := range run {
			switch {
			case s.h != nil:
				ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(s.t, s.h))
			case s.fh != nil:
				ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(s.t, s.fh))
			default:
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: s.t, Value: s.v})
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	})
	b, err := req.Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, b)
}

func encodeV2(t *testing.T, samples []dataSample) []byte {
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	runs(samples, func(run []dataSample) {
		ts := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(run[0].labels, nil)}
		for _, s := range run {
			switch {
			case s.h != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(s.st, s.t, s.h))
			case s.fh != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(s.st, s.t, s.fh))
			default:
				ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: s.t, StartTimestamp: s.st, Value: s.v})
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	})
	req.Symbols = symbols.Symbols()
	b, err := req.Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, b)
}
