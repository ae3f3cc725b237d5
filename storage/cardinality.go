package storage

import (
	"context"

	"github.com/prometheus/prometheus/tsdb"
)

// Stats counts the series in memory of the context's tenant, which are those that have not ended: how many there are, the
// limit values of the label with most series, and the limit label names with most values and most bytes and the limit pairs
// with most series, each largest first. The times are those of the oldest and the youngest sample in memory, in ms.
func (db *DB) Stats(ctx context.Context, label string, limit int) (*tsdb.Stats, error) {
	id, ok, err := db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok {
		id = 0 // no tenant has it: as one without series
	}
	t := db.head.Tenant(id)
	mint, maxt := t.Bounds()
	return &tsdb.Stats{NumSeries: uint64(t.Len()), MinTime: mint, MaxTime: maxt, IndexPostingStats: t.Stats(label, limit)}, nil
}
