package catalogue

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Import looks series of the past up and creates those that are missing. It widens the time in which the catalogue knows
// them to [Started, Ended], and unlike Create makes no series active: what the leader has in memory stays so, and only that.
// It fills in ID and commits before it returns. No two of the series may be the same.
func (c *Catalogue) Import(ctx context.Context, series []*Series) error {
	const step = 1000 // the rows stay locked until a step ends, and the leader may want them in another order
	if len(series) == 0 {
		return nil
	}
	// A leader that ends such a series knows only its own samples.
	last := series[0].Ended
	for _, s := range series {
		last = max(last, s.Ended)
	}
	if _, err := c.pool.Exec(ctx, schema.ImportHour, last); err != nil {
		return err
	}
	for len(series) > 0 {
		n := min(step, len(series))
		if err := c.create(ctx, series[:n], true); err != nil {
			return err
		}
		series = series[n:]
	}
	return nil
}

// ActiveStarted calls fn for each series that has not ended, with the hour since 1970 before which it has no sample.
func (c *Catalogue) ActiveStarted(ctx context.Context, fn func(id uint64, started int32)) error {
	rows, err := c.pool.Query(ctx, schema.SeriesActiveStarted)
	if err != nil {
		return err
	}
	var (
		id      int64
		started int32
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &started}, func() error {
		fn(uint64(id), started)
		return nil
	})
	return err
}
