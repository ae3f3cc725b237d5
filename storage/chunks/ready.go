package chunks

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Ready asks on a new connection what Read asks of [mint, maxt] (ms), of one series that has rows there if any has: the server process then knows the tables and
// indexes of these days, and where large values lie, and the connection the statements, which costs several times what reading a little does, and which the
// first query would wait for.
func Ready(ctx context.Context, conn *pgx.Conn, mint, maxt int64) error {
	var (
		batch pgx.Batch
		begin = floor(mint, Day)
		id    int64 // 0 is none
	)
	// Not prepared: it is not asked again.
	err := conn.QueryRow(ctx, schema.ReadyRow, pgx.QueryExecModeExec, begin, maxt).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	one, metric := []int64{id}, id>>metricShift<<metricShift
	batch.Queue(schema.ReadBegin)
	batch.Queue(schema.ReadLock)
	batch.Queue(schema.CatalogueState)
	batch.Queue(schema.ReadRows, one, one, one, begin, mint, maxt)
	batch.Queue(schema.ReadMetricChunk, one, metric, id, id, begin, mint, maxt)
	batch.Queue(schema.ReadGeneric)
	batch.Queue(schema.ReadMetricRecent, one, metric, id, id, mint, maxt)
	batch.Queue(schema.TimesRead, []int64{0}, [][]byte{{}})
	batch.Queue(schema.ReadEnd)
	return conn.SendBatch(ctx, &batch).Close()
}
