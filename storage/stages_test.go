package storage

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestOneRightAnswerAfterEachStage writes in order, out of order, twice and late, and asks after each stage: in the head,
// flushed, merged to windows, merged to days, with late samples for merged ranges, and each time after a restart.
func TestOneRightAnswerAfterEachStage(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		want := map[string]map[int64]float64{}
		put := func(l labels.Labels, samples ...sample) {
			write(t, db, l, samples...)
			if want[l.String()] == nil {
				want[l.String()] = map[int64]float64{}
			}
			for _, s := range samples {
				want[l.String()][s.t] = s.v
			}
		}
		check := func(stage string) {
			t.Helper()
			got := read(t, db, 0, c.now.Add(time.Hour).UnixMilli(), eq("__name__", "m"))
			require.Len(t, got, len(want), stage)
			for l, samples := range want {
				last := int64(0)
				require.Len(t, got[l], len(samples), "%s: %s", stage, l)
				for _, s := range got[l] {
					require.Greater(t, s.t, last, "%s: order", stage)
					last = s.t
					require.Equal(t, samples[s.t], s.v, "%s: %s at %d", stage, l, s.t)
				}
			}
		}
		restart := func(stage string) {
			t.Helper()
			require.NoError(t, db.Close())
			db = open(t, cfg)
			check(stage + ", restarted")
		}
		at := func(d time.Duration) int64 { return day.Add(d).UnixMilli() }

		for i := range 20 {
			for k := range 40 {
				put(lset("m", i), sample{at(9*time.Hour + time.Duration(k)*15*time.Second), float64(i * k)})
			}
		}
		put(lset("m", 1), sample{at(9*time.Hour + 15*time.Second), 99}, sample{at(8 * time.Hour), 1}, sample{at(9*time.Hour + 15*time.Second), 77})
		check("head")
		restart("head")
		require.NoError(t, db.Flush(ctx))
		check("flushed")
		restart("flushed")

		put(lset("m", 1), sample{at(9*time.Hour + 15*time.Second), 55}, sample{at(9*time.Hour + 17*time.Second), 3})
		put(lset("m", 2), sample{at(9 * time.Hour), 0})
		check("flushed and head")
		require.NoError(t, db.Flush(ctx))
		check("flushed twice")

		c.now = day.Add(13 * time.Hour)
		require.NoError(t, db.Maintain(ctx))
		check("merged to windows")
		restart("merged to windows")
		put(lset("m", 3), sample{at(9*time.Hour + time.Minute), -1}, sample{at(7 * time.Hour), -2}, sample{at(13 * time.Hour), 5})
		check("late in head")
		require.NoError(t, db.Flush(ctx))
		check("late flushed")
		restart("late flushed")

		c.now = day.Add(30 * time.Hour)
		require.NoError(t, db.Maintain(ctx))
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countRows(t, pg, "_promkeep.recent"), "all has moved to the long-term store")
		require.NotZero(t, countRows(t, pg, "_promkeep.chunk"))
		check("merged to days")
		restart("merged to days")

		put(lset("m", 3), sample{at(9*time.Hour + time.Minute), -7}, sample{at(6 * time.Hour), -6})
		put(lset("m", 21), sample{at(6 * time.Hour), 1})
		check("late into a merged day, head")
		require.NoError(t, db.Flush(ctx))
		check("late into a merged day, flushed")
		c.now = day.Add(33 * time.Hour)
		require.NoError(t, db.Maintain(ctx))
		check("late into a merged day, gathered")
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		check("late into a merged day, merged")
		restart("late into a merged day, merged")
	})
}

// makePartsOld lets parts look as if they had been opened a day ago, since the database's clock cannot be set.
func makePartsOld(t testing.TB, pg *pgtest.DB) {
	t.Helper()
	_, err := pg.Pool(t).Exec(context.Background(), "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
	require.NoError(t, err)
}

// wholeLog is what both tables of the log hold that counts.
const wholeLog = `(SELECT l.* FROM (SELECT * FROM _promkeep.log UNION ALL SELECT * FROM _promkeep.log_other) AS l, _promkeep.leader AS f
	WHERE (l.segment, l.seq) > (f.log_segment, f.log_seq)) AS log`

func countRows(t *testing.T, pg *pgtest.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// countPacked counts the packed rows in the bundles of a table.
func countPacked(t testing.TB, pg *pgtest.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT coalesce(sum(members), 0) FROM "+table).Scan(&n))
	return n
}
