package bench

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// receiver decodes what it is sent with upstream's types.
type receiver struct {
	mu      sync.Mutex
	samples map[string]map[int64]float64 // by tenant and labels, and time
	refuse  func(w http.ResponseWriter, attempt int64) bool
	attempt atomic.Int64
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.refuse != nil && r.refuse(w, r.attempt.Add(1)) {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	raw, err := snappy.Decode(nil, body)
	var got prompb.WriteRequest
	if err == nil {
		err = got.Unmarshal(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range got.Timeseries {
		key := req.Header.Get("X-Scope-OrgID")
		for _, l := range s.Labels {
			key += "," + l.Name + "=" + l.Value
		}
		if r.samples[key] == nil {
			r.samples[key] = map[int64]float64{}
		}
		for _, x := range s.Samples {
			r.samples[key][x.Timestamp] = x.Value
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func run(t *testing.T, s *Sender, r *receiver) Report {
	r.samples = map[string]map[int64]float64{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	s.URL = server.URL
	require.NoError(t, s.Prepare())
	report, err := s.Run(context.Background())
	require.NoError(t, err)
	return report
}

func TestSenderSendsEachSampleOnce(t *testing.T) {
	r := &receiver{}
	var marks []int
	s := &Sender{Load: testLoad(1_100, 7), Protocol: V1, Batch: 300, Concurrency: 3, Tenants: 2, Every: 3,
		Mark: func(_ context.Context, step int) error { marks = append(marks, step); return nil }}
	report := run(t, s, r)
	require.EqualValues(t, 1_100*7, report.Sent)
	require.Zero(t, report.Rejected)
	require.Zero(t, report.Retried)
	require.Equal(t, []int{3, 6}, marks)
	require.Len(t, r.samples, 1_100)
	for key, samples := range r.samples {
		require.Len(t, samples, 7, key)
	}
	require.Positive(t, report.P50)
	require.LessOrEqual(t, report.P50, report.P99)
	require.LessOrEqual(t, report.P99, report.Max)
}

func TestSenderObeysRetryAfterAndDropsWhatIsRejected(t *testing.T) {
	var first, second time.Time
	r := &receiver{refuse: func(w http.ResponseWriter, attempt int64) bool {
		switch attempt {
		case 1:
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			http.Error(w, "later", http.StatusTooManyRequests)
		case 2:
			second = time.Now()
			http.Error(w, "away", http.StatusServiceUnavailable)
		case 4:
			http.Error(w, "too old", http.StatusBadRequest)
		default:
			return false
		}
		return true
	}}
	s := &Sender{Load: testLoad(200, 2), Protocol: V1, Batch: 200, Concurrency: 1}
	report := run(t, s, r)
	require.GreaterOrEqual(t, second.Sub(first), time.Second)
	require.EqualValues(t, 2, report.Retried)
	require.EqualValues(t, 200, report.Sent)
	require.EqualValues(t, 200, report.Rejected)
	require.Equal(t, "400: too old", report.Rejection)
}

func TestSenderReplacesChurnedPodsAndKeepsPace(t *testing.T) {
	r := &receiver{}
	load := testLoad(len(node()), 3)
	load.Interval = 20 * time.Minute
	load.Churn = 3
	s := &Sender{Load: load, Protocol: V1, Batch: 500, Concurrency: 2, Speed: 2 * load.Interval.Seconds()}
	began := time.Now()
	run(t, s, r)
	require.GreaterOrEqual(t, time.Since(began), time.Second, "three steps, two in a second")
	pods := 0
	for i := range load.Series {
		if node()[i].pod >= 0 {
			pods++
		}
	}
	require.Len(t, r.samples, load.Series+2*pods, "each pod is replaced at each step")
}
