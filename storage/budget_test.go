package storage

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestBudgetBoundsAQuery reads series in memory and in the database with budgets that are just enough and just too small: a
// query past its budget fails as one that asks for too much, and what it held is given back when it ends.
func TestBudgetBoundsAQuery(t *testing.T) {
	c := &clock{day.Add(10 * time.Hour)}
	db := open(t, testConfig(t, pgtest.New(t), c))
	const series, samples = 20, 500
	fill := func(name string) {
		for i := range series {
			var all []sample
			for k := range samples {
				all = append(all, sample{c.now.Add(time.Duration(k-samples) * 15 * time.Second).UnixMilli(), math.Sqrt(float64(k * i))})
			}
			write(t, db, lset(name, i), all...)
		}
	}
	fill("packed")
	require.NoError(t, db.Flush(context.Background()))
	db.head.Evict(math.MaxInt64 - 1)
	fill("fresh")

	// query reads all samples of a metric, keeping the iterators or not, and returns how much it held at most.
	query := func(name string, limit int64, keep bool) (peak int64, err error) {
		b := db.NewBudget("--the.flag", limit)
		q, err := db.Querier(0, c.now.UnixMilli())
		require.NoError(t, err)
		set := q.Select(WithBudget(context.Background(), b), false, nil, eq("__name__", name))
		var it chunkenc.Iterator
		n := 0
		for set.Next() {
			if keep {
				it = nil
			}
			for it = set.At().Iterator(it); it.Next() != chunkenc.ValNone; {
				n++
			}
			if err == nil {
				err = it.Err()
			}
		}
		if err == nil {
			err = set.Err()
		}
		if err == nil {
			require.Equal(t, series*samples, n)
			require.Positive(t, b.Held())
		}
		require.Equal(t, b.Held(), db.queryBytes.Load(), "what the metric shows")
		require.NoError(t, q.Close())
		require.Zero(t, db.queryBytes.Load())
		require.Zero(t, b.Held(), "all is given back")
		return b.Peak(), err
	}
	for _, name := range []string{"packed", "fresh"} {
		one, err := query(name, 0, false)
		require.NoError(t, err, "no bound")
		all, err := query(name, 0, true)
		require.NoError(t, err)
		require.GreaterOrEqual(t, all-one, int64((series-1)*samples*16), "%s: the decoded samples of each iterator count", name)
		require.GreaterOrEqual(t, one, int64(samples*16), name)

		_, err = query(name, one, false)
		require.NoError(t, err, "%s: just enough", name)
		_, err = query(name, all, true)
		require.NoError(t, err, "%s: just enough", name)
		for _, limit := range []int64{one - 1, one / 2, 1} {
			_, err = query(name, limit, false)
			var budget *BudgetError
			require.ErrorAs(t, err, &budget, "%s with %d of %d bytes", name, limit, one)
			require.Equal(t, &BudgetError{"--the.flag", limit}, budget)
			require.NotErrorIs(t, err, ErrUnavailable)
			var passing interface{ RetryAfter() time.Duration }
			require.False(t, errors.As(err, &passing), "coming again would not help")
		}
		_, err = query(name, all-1, true)
		require.ErrorAs(t, err, new(*BudgetError))
	}

	t.Run("two selectors", func(t *testing.T) {
		b := NewBudget("--the.flag", 0)
		ctx := WithBudget(context.Background(), b)
		q, err := db.Querier(0, c.now.UnixMilli())
		require.NoError(t, err)
		drain := func(set promstorage.SeriesSet) {
			for set.Next() {
			}
			require.NoError(t, set.Err())
		}
		drain(q.Select(ctx, false, nil, eq("__name__", "packed")))
		first := b.Held()
		require.Positive(t, first)
		drain(q.Select(ctx, false, nil, eq("__name__", "packed")))
		require.Equal(t, 2*first, b.Held(), "count together")
		require.NoError(t, q.Close())
		require.Zero(t, b.Held())
	})
}

func TestBudgetErrorSaysWhichLimit(t *testing.T) {
	require.EqualError(t, &BudgetError{"--query.max-memory", 3 << 29},
		"the query would hold more than 1GiB512MiB of packed rows and samples in memory (--query.max-memory)")
}
