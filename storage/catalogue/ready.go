package catalogue

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Ready asks on a new connection what Select asks, and finds nothing; see chunks.Ready.
func Ready(ctx context.Context, conn *pgx.Conn) error {
	var (
		batch pgx.Batch
		none  = []int64{}
		zero  = []int64{0} // is no metric
		pairs = []int32{}
	)
	batch.Queue(schema.CatalogueState)
	batch.Queue(schema.SeriesSelect, zero, 0, 0, none)
	batch.Queue(schema.SeriesSelectMetricPairs, 0, 0, 0, none, pairs, nil)
	batch.Queue(schema.SeriesSelectPairs, none, 0, 0, none, pairs, nil)
	batch.Queue(schema.LabelPairs, []int32{0})
	batch.Queue(schema.LabelValuesIn, "", []string{""})
	return conn.SendBatch(ctx, &batch).Close()
}
