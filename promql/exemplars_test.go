package promql

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	keep "github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestExemplarsOfTheStorage: /api/v1/query_exemplars shows what was written, in Prometheus' shape, before and after a flush.
func TestExemplarsOfTheStorage(t *testing.T) {
	db := openStore(t, pgtest.New(t))
	s := serveOver(t, db, func(o *Options) { o.Exemplars = db.DB })
	at := time.Now().Truncate(time.Second)
	b, err := db.NewBatch(context.Background(), "")
	require.NoError(t, err)
	b.New(keep.Key{1}, labels.FromStrings("__name__", "latency_bucket", "le", "1"))
	b.Float(at.UnixMilli(), 0, 7)
	b.Exemplar(exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "abc"), Value: 0.5, Ts: at.UnixMilli(), HasTs: true})
	require.NoError(t, b.Commit(context.Background()))
	b.Release()
	query := func(expr string, from, to time.Time) string {
		got := s.get(t, fmt.Sprintf("/api/v1/query_exemplars?query=%s&start=%d&end=%d", expr, from.Unix(), to.Unix()))
		require.Equal(t, 200, got.code, got.body)
		return string(got.Data)
	}
	for _, to := range []stage{inHead, flushed} {
		require.NoError(t, db.moveTo(context.Background(), to))
		require.JSONEq(t, fmt.Sprintf(`[{"seriesLabels":{"__name__":"latency_bucket","le":"1"},
			"exemplars":[{"labels":{"trace_id":"abc"},"value":"0.5","timestamp":%d}]}]`, at.Unix()),
			query("histogram_quantile(0.9,rate(latency_bucket[5m]))", at.Add(-time.Minute), at.Add(time.Minute)))
		require.JSONEq(t, `[]`, query("latency_bucket", at.Add(-time.Hour), at.Add(-time.Minute)))
		require.JSONEq(t, `[]`, query("other_bucket", at.Add(-time.Hour), at.Add(time.Minute)))
	}
}
