package chunks

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Ready asks on a new connection what Read asks of [mint, maxt] (ms), of no series: the server process then knows the tables of these days, and the connection
// the statements, which costs several times what reading a little does, and which the first query would wait for.
func Ready(ctx context.Context, conn *pgx.Conn, mint, maxt int64) error {
	var (
		batch pgx.Batch
		none        = []int64{}
		begin       = floor(mint, Day)
		zero  int64 = 0
	)
	batch.Queue(schema.ReadBegin)
	batch.Queue(schema.ReadLock)
	batch.Queue(schema.CatalogueState)
	batch.Queue(schema.ReadRows, none, none, none, begin, mint, maxt)
	batch.Queue(schema.ReadMetricChunk, none, zero, zero, zero, begin, mint, maxt)
	batch.Queue(schema.ReadGeneric)
	batch.Queue(schema.ReadMetricRecent, none, zero, zero, zero, mint, maxt)
	batch.Queue(schema.TimesRead, none, [][]byte{})
	batch.Queue(schema.ReadEnd)
	return conn.SendBatch(ctx, &batch).Close()
}
