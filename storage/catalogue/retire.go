package catalogue

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Retired is what was removed.
type Retired struct {
	Series, LabelSets, LabelPairs, Metrics int
}

// Retirable returns at most limit series that ended before an hour since 1970, in no order.
func (c *Catalogue) Retirable(ctx context.Context, before int32, limit int) ([]uint64, error) {
	rows, err := c.pool.Query(ctx, schema.SeriesRetirable, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, schema.RowToID)
}

// Retire removes those of the series that ended before an hour, and the label sets that no other series has. The caller sees to it
// that none of them is in memory, nor gets there meanwhile. It holds off the creation of series, so ids should not be many.
func (c *Catalogue) Retire(ctx context.Context, fence Fence, ids []uint64, before int32) (done Retired, err error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	var version int64
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		if err := fence(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, schema.SeriesRetire, schema.SignedIDs(ids), before).Scan(&version, &done.Series, &done.LabelSets)
	})
	if err != nil {
		c.results.discard(everything)
		return Retired{}, err
	}
	c.forgetRecent(before)
	c.results.changed(version, func(r *result) bool { return r.mint < before })
	return done, nil
}

// RetireNames removes label pairs and metrics that no series has, in steps that hold off the creation of series only shortly.
func (c *Catalogue) RetireNames(ctx context.Context, fence Fence) (done Retired, err error) {
	const step = 1000
	for {
		// Reading without a lock finds some that are just being taken into use: they are looked at again under it.
		pairs, err := c.unused(ctx, schema.LabelUnused, step)
		if err != nil {
			return done, err
		}
		metrics, err := c.unused(ctx, schema.MetricUnused, step)
		if err != nil || len(pairs)+len(metrics) == 0 {
			return done, err
		}
		gone, err := c.retireNames(ctx, fence, pairs, metrics)
		done.LabelPairs += gone.LabelPairs
		done.Metrics += gone.Metrics
		if err != nil || gone == (Retired{}) || max(len(pairs), len(metrics)) < step {
			return done, err
		}
	}
}

func (c *Catalogue) unused(ctx context.Context, query string, limit int) ([]int32, error) {
	rows, err := c.pool.Query(ctx, query, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}

func (c *Catalogue) retireNames(ctx context.Context, fence Fence, pairs, metrics []int32) (Retired, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	var (
		retired                int64
		pairsGone, metricsGone []int32
	)
	err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		if err := fence(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, schema.NamesRetire, pairs, metrics).Scan(&retired, &pairsGone, &metricsGone)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removal++
	done := Retired{LabelPairs: len(pairsGone), Metrics: len(metricsGone)}
	if err != nil || retired != c.retired+1 {
		// Not all that is gone is known: the next creation looks everything up again.
		c.retired = -1
		return done, err
	}
	c.retired = retired
	for _, id := range pairsGone {
		c.pairs.remove(id)
	}
	for _, id := range metricsGone {
		delete(c.metrics, c.metric[id])
		delete(c.metric, id)
	}
	return done, nil
}
