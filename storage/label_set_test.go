package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestSeriesOfALabelSetAreFoundOnce: those that were created with it, those that came later, and those that left the catalogue and came back, by every way
// from a label pair to the series.
func TestSeriesOfALabelSetAreFoundOnce(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 3 * 24 * time.Hour
		db := open(t, cfg)
		one := func(metric string) labels.Labels {
			return labels.FromStrings("__name__", metric, "job", "x", "pod", "1")
		}
		other := labels.FromStrings("__name__", "other", "job", "y")
		put := func(all ...labels.Labels) {
			t.Helper()
			b, err := db.NewBatch(ctx, "")
			require.NoError(t, err)
			defer b.Release()
			for _, l := range all {
				if key := keyOf(l); !b.Known(key) {
					b.New(key, l)
				}
				b.Float(c.now.UnixMilli(), 0, 1)
			}
			require.NoError(t, b.Commit(ctx))
		}
		late := func() (names []string) {
			t.Helper()
			require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT coalesce(array_agg(m.name::text ORDER BY m.name), '{}')
				FROM _promkeep.series AS s JOIN _promkeep.metric AS m ON m.id = s.id >> 37 WHERE s.late`).Scan(&names))
			return names
		}
		check := func(want ...string) {
			t.Helper()
			to := c.now.UnixMilli()
			found := read(t, db, 0, to, eq("pod", "1"))
			var texts []string
			for _, name := range want {
				texts = append(texts, one(name).String())
				require.Len(t, read(t, db, 0, to, eq("__name__", name), eq("pod", "1")), 1, name)
				require.Equal(t, 1, countRows(t, pg, fmt.Sprintf(`promkeep.find_series('%s', '{"pod": "1"}')`, name)), name)
			}
			require.Equal(t, texts, slices.Sorted(maps.Keys(found)))
			require.Equal(t, want, labelValues(t, db, DefaultTenant, 0, to, 0, "__name__", eq("pod", "1")))
			require.Equal(t, []string{"x"}, labelValues(t, db, DefaultTenant, 0, to, 0, "job", eq("pod", "1")))
			require.Equal(t, []string{"__name__", "job", "pod"}, labelNames(t, db, DefaultTenant, 0, to, 0, eq("pod", "1")))
			require.Equal(t, len(want), countRows(t, pg, `promkeep.find_series(NULL, '{"pod": "1"}')`))
		}

		put(one("a"), one("b"), other)
		put(one("c"))
		require.Equal(t, []string{"c"}, late())
		check("a", "b", "c")
		c.now = c.now.Add(24 * time.Hour)
		put(other)
		endSeries(t, db)
		require.Equal(t, 3, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
		check("a", "b", "c")

		// Only b lives on, and keeps the label set; a comes back to it.
		put(one("b"))
		for range 3 {
			c.now = c.now.Add(24 * time.Hour)
			put(one("b"), other)
			endSeries(t, db)
		}
		require.Equal(t, 2, countRows(t, pg, "_promkeep.series"), "a and c have left the catalogue")
		require.Equal(t, 2, countRows(t, pg, "_promkeep.label_set"))
		put(one("a"))
		require.Equal(t, []string{"a"}, late())
		check("a", "b")
		c.now = c.now.Add(24 * time.Hour)
		put(other)
		endSeries(t, db)
		require.Equal(t, 2, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
		check("a", "b")

		// The set goes with the last of them, whichever kind it is.
		for range 4 {
			c.now = c.now.Add(24 * time.Hour)
			put(other)
			endSeries(t, db)
		}
		require.Equal(t, 1, countRows(t, pg, "_promkeep.series"))
		require.Equal(t, 1, countRows(t, pg, "_promkeep.label_set"))
	})
}
