package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// writeSeries writes a sample of each of n series of a metric, all of one job.
func writeSeries(t testing.TB, db *DB, metric string, n int, at int64) {
	t.Helper()
	writeSeriesOf(t, db, metric, metric, n, at)
}

// writeSeriesOf writes as many series of a metric, in label sets that they have in common with those of others with the same of.
func writeSeriesOf(t testing.TB, db *DB, metric, of string, n int, at int64) {
	t.Helper()
	b, err := db.NewBatch(context.Background(), "")
	require.NoError(t, err)
	defer b.Release()
	for i := range n {
		l := labels.FromStrings("__name__", metric, "i", fmt.Sprint(i), "job", "kubelet", "of", of)
		b.New(keyOf(l), l)
		b.Float(at, 0, 1)
	}
	require.NoError(t, b.Commit(context.Background()))
}

// TestSeriesAreCreatedWhileManyEnd: ending many series holds off new ones for a step, not until all have ended.
func TestSeriesAreCreatedWhileManyEnd(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	const steps = 8
	const ending = steps*endAtOnce - endAtOnce/2
	writeSeries(t, db, "old", ending, c.now.UnixMilli())
	c.now = day.Add(40 * time.Hour)
	at := c.now.UnixMilli()
	for range 3 {
		require.NoError(t, db.Flush(ctx))
	}
	version := func() (v int) {
		require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT version FROM _promkeep.catalogue").Scan(&v))
		return v
	}
	before := version()
	done := make(chan error, 1)
	go func() { done <- db.Maintain(ctx) }()
	var err error
	between, created := 0, 0
	for working := true; working; created++ {
		write(t, db, lset("new", created), sample{at, 1})
		// By a connection that there is: until a new one is made on a busy machine, all may have ended.
		var n int
		require.NoError(t, db.pool.QueryRow(ctx, "SELECT count(*) FROM _promkeep.series WHERE ended IS NOT NULL").Scan(&n))
		if n > 0 && n < ending {
			between++
		}
		select {
		case err = <-done:
			working = false
		default:
		}
	}
	require.NoError(t, err)
	require.Equal(t, ending, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
	require.Equal(t, steps+created, version()-before)
	require.NotZero(t, between)
	require.Len(t, read(t, db, at-1, at+1, eq("__name__", "new")), created)
}

// TestASeriesThatComesBackBeforeItsEndIsKnown and gets a late sample only, still has its youngest ones when it has ended.
func TestASeriesThatComesBackBeforeItsEndIsKnown(t *testing.T) {
	for _, stage := range []string{"before the next step", "before the next try"} {
		t.Run(stage, func(t *testing.T) {
			pg := pgtest.New(t)
			ctx := context.Background()
			c := &clock{day.Add(20 * time.Hour)}
			db := open(t, testConfig(t, pg, c))
			at := func(hour int) int64 { return day.Add(time.Duration(hour) * time.Hour).UnixMilli() }
			write(t, db, lset("m", 1), sample{at(20), 20})
			c.now = day.Add(40 * time.Hour)
			for range 3 {
				require.NoError(t, db.Flush(ctx))
			}
			db.flushMu.Lock()
			db.boundCache(c.now.Add(-db.cfg.CacheWindow).UnixMilli())
			db.letGo(c.now)
			db.flushMu.Unlock()
			require.Zero(t, db.head.Len())
			write(t, db, lset("m", 1), sample{at(10), 10})
			if strings.Contains(stage, "step") {
				db.flushMu.Lock()
				err := db.end(ctx, c.now)
				db.flushMu.Unlock()
				require.NoError(t, err)
				require.Zero(t, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
			}
			c.now = day.Add(41 * time.Hour)
			endSeries(t, db)
			require.Zero(t, db.head.Len())
			require.Equal(t, 1, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
			require.Equal(t, []sample{{at(20), 20}}, read(t, db, at(19), at(21), eq("__name__", "m"))[lset("m", 1).String()])
		})
	}
}

// TestCreationNeedsNotTheIndexOfPairs, whose lists grow with the number of series: label sets are found by their hash.
func TestCreationNeedsNotTheIndexOfPairs(t *testing.T) {
	pg := pgtest.New(t)
	db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
	const sets = 6000
	at := day.UnixMilli()
	// Label sets with a pair that is created with them are new, and not looked up.
	writeSeriesOf(t, db, "m0", "a", sets, at)
	writeSeriesOf(t, db, "m1", "b", 1, at)
	writeSeriesOf(t, db, "m2", "a", sets, at) // are there
	writeSeriesOf(t, db, "m3", "b", sets, at) // are not, but for one, and all their pairs are
	require.NoError(t, db.Close())            // then PostgreSQL counts what its sessions did
	pool := pg.Pool(t)
	scans := func(index string) (n int) {
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = $1", index).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return scans("label_set_hash") == 2*sets }, time.Minute, 100*time.Millisecond)
	require.Zero(t, scans("label_set_labels"))
}

// TestCreationLeavesTheIndexOfPairsInOrder: new label sets go through the index's list of pending entries, which every search would have to read, and none of
// them stay there, nor any that an earlier creation was kept from moving.
func TestCreationLeavesTheIndexOfPairsInOrder(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
	pool := pg.Pool(t)
	clean := func() (pages int) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT gin_clean_pending_list('_promkeep.label_set_labels')").Scan(&pages))
		return pages
	}
	interrupted := func() {
		_, err := pool.Exec(ctx, "INSERT INTO _promkeep.label_set (id, labels) SELECT nextval('_promkeep.label_set_seq'), ARRAY[g, g + 1] FROM generate_series(1000000, 1000999) AS g")
		require.NoError(t, err)
	}
	interrupted()
	require.NotZero(t, clean())
	interrupted()
	writeSeries(t, db, "m", 6000, day.UnixMilli())
	require.Zero(t, clean())
	interrupted()
	require.NoError(t, db.catalogue.Import(ctx, []*catalogue.Series{{Tenant: 1, Labels: labels.FromStrings("__name__", "m", "i", "imported")}}))
	require.Zero(t, clean())
	require.Equal(t, 1, countRows(t, pg, "promkeep.series WHERE labels->>'i' = 'imported'"))
}
