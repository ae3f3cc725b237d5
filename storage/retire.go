package storage

import (
	"context"
	"slices"

	"github.com/promkeep/promkeep/storage/catalogue"
)

const (
	retireAtOnce = 1000    // series in one transaction, which holds off the creation of others
	retireListed = 200_000 // series in one pass
)

// retirement says how far series past the retention have left the catalogue.
type retirement struct {
	before int32 // hour since 1970: those that ended earlier are gone
	done   bool  // so are the label pairs and metrics that nothing has
}

// retire takes series out of the catalogue whose samples are all past the retention, and label pairs and metrics that no series has
// any more. Days that only they had samples in must have been dropped before.
func (db *DB) retire(ctx context.Context) error {
	// Days are dropped whole.
	before := catalogue.Hour(db.MinTime())
	before -= (before%24 + 24) % 24
	if before <= db.retired.before && db.retired.done {
		return nil
	}
	var total catalogue.Retired
	for {
		had := total.Series
		ids, err := db.catalogue.Retirable(ctx, before, retireListed)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(ids, retireAtOnce) {
			done, err := db.retireSeries(ctx, part, before)
			if err != nil {
				return err
			}
			total.Series += done.Series
			total.LabelSets += done.LabelSets
			db.pause()
		}
		if len(ids) < retireListed || total.Series == had {
			break
		}
	}
	if total.Series > 0 || !db.retired.done {
		names, err := db.catalogue.RetireNames(ctx, db.fence)
		if err != nil {
			return err
		}
		total.LabelPairs, total.Metrics = names.LabelPairs, names.Metrics
	}
	db.retired = retirement{before: before, done: true}
	db.metrics.seriesRetired.Add(float64(total.Series))
	if total != (catalogue.Retired{}) {
		db.cfg.Logger.Info("took series past the retention out of the catalogue", "series", total.Series, "label_sets", total.LabelSets,
			"label_pairs", total.LabelPairs, "metrics", total.Metrics)
	}
	return nil
}

// retireSeries takes out a few. Meanwhile none can come back: a writer that asks for one afterwards creates it anew.
func (db *DB) retireSeries(ctx context.Context, ids []uint64, before int32) (catalogue.Retired, error) {
	db.resolver.lifecycle.Lock()
	defer db.resolver.lifecycle.Unlock()
	// Whatever is in memory is active, so there should be none of these. But they must not go: the log may name them.
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return db.head.ByID(id) != nil })
	if len(ids) == 0 {
		return catalogue.Retired{}, nil
	}
	return db.catalogue.Retire(ctx, db.fence, ids, before)
}
