package promql

import (
	"context"
	"testing"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestMetadataOfTheStorage: /api/v1/metadata shows what was announced, in Prometheus' shape.
func TestMetadataOfTheStorage(t *testing.T) {
	db := openStore(t, pgtest.New(t))
	s := serveOver(t, db, func(o *Options) { o.Metadata = db.DB })
	require.JSONEq(t, `{}`, string(s.get(t, "/api/v1/metadata").Data))
	b, err := db.NewBatch(context.Background(), "")
	require.NoError(t, err)
	b.Metadata("up", metadata.Metadata{Type: "gauge", Help: "Is it?"})
	b.Metadata("seconds", metadata.Metadata{Type: "histogram", Help: "How long.", Unit: "seconds"})
	b.Metadata("seconds", metadata.Metadata{Type: "histogram", Help: "How long it took.", Unit: "seconds"})
	require.NoError(t, b.Commit(context.Background()))
	b.Release()
	require.JSONEq(t, `{"up":[{"type":"gauge","help":"Is it?","unit":""}]}`, string(s.get(t, "/api/v1/metadata?metric=up").Data))
	require.JSONEq(t, `{}`, string(s.get(t, "/api/v1/metadata?metric=none").Data))
	got := s.get(t, "/api/v1/metadata?limit=1&limit_per_metric=2")
	require.Contains(t, []string{
		`{"seconds":[{"type":"histogram","unit":"seconds","help":"How long."},{"type":"histogram","unit":"seconds","help":"How long it took."}]}`,
		`{"seconds":[{"type":"histogram","unit":"seconds","help":"How long it took."},{"type":"histogram","unit":"seconds","help":"How long."}]}`,
	}, string(got.Data))
}
