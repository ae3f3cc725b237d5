package storage

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestADamagedRowIsReported: a packed row that lost bytes is named with its series and time and counted, a query of it fails and
// others go on, and a merge keeps it as it is.
func TestADamagedRowIsReported(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(3 * time.Hour)}
		cfg := testConfig(t, pg, c)
		var log bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Registerer = prometheus.NewRegistry()
		db := open(t, cfg)
		for _, name := range []string{"m", "other"} {
			for i := range 3 {
				for k := range 50 {
					write(t, db, lset(name, i), sample{day.Add(time.Hour + time.Duration(k*k)*time.Second).UnixMilli(), float64(k * k * k)})
				}
			}
		}
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Close())
		// The last bytes of a bundle are those of its last series.
		const damage = `UPDATE _promkeep.recent SET data = set_byte(data, octet_length(data) - 9, get_byte(data, octet_length(data) - 9) # 255)
			WHERE series_id >> 37 = (SELECT id FROM _promkeep.metric WHERE name = 'm')`
		_, err := pg.Pool(t).Exec(ctx, damage)
		require.NoError(t, err)

		cfg.CacheWindow = time.Minute // so that queries ask the database
		cfg.Registerer = prometheus.NewRegistry()
		c.now = day.Add(5 * time.Hour)
		db = open(t, cfg)
		query := func(name string, i int) error {
			q, err := db.Querier(0, c.now.UnixMilli())
			require.NoError(t, err)
			defer q.Close()
			set := q.Select(ctx, true, nil, eq("__name__", name), eq("i", lset("", i).Get("i")))
			n := 0
			for set.Next() {
				it := set.At().Iterator(nil)
				for it.Next() != 0 {
					n++
				}
				if it.Err() != nil {
					return it.Err()
				}
			}
			if set.Err() == nil {
				require.Equal(t, 50, n)
			}
			return set.Err()
		}
		check := func(stage string) {
			t.Helper()
			require.NoError(t, query("other", 2), stage)
			require.NoError(t, query("m", 0), "%s: its neighbour in the bundle", stage)
			log.Reset()
			before := testutil.ToFloat64(db.metrics.corruptRows)
			err := query("m", 2)
			require.ErrorContains(t, err, "row of series ", stage)
			require.ErrorContains(t, err, lset("m", 2).String(), stage)
			require.Equal(t, before+1, testutil.ToFloat64(db.metrics.corruptRows), stage)
			require.Contains(t, log.String(), "50 samples", stage)
		}
		check("flushed")
		c.now = day.Add(8 * time.Hour)
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(ctx))
		check("merged to windows")
		c.now = day.Add(40 * time.Hour)
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		check("merged to days")

		// A bundle whose directory is damaged is kept as well.
		_, err = pg.Pool(t).Exec(ctx, `INSERT INTO _promkeep.part (id, level, window_start, sealed) OVERRIDING SYSTEM VALUE VALUES (9999, 1, $1, true)`, day.UnixMilli())
		require.NoError(t, err)
		_, err = pg.Pool(t).Exec(ctx, `CREATE TABLE _promkeep.recent_9999 PARTITION OF _promkeep.recent FOR VALUES IN (9999)`)
		require.NoError(t, err)
		_, err = pg.Pool(t).Exec(ctx, `INSERT INTO _promkeep.recent_9999 (part, series_id, last_id, start, "end", n, members, version, encoding, data)
			SELECT 9999, min(id), max(id), $1::int8, $1::int8 + 1000, 10, 3, 1, 16, '\x01ffff' FROM _promkeep.series
			WHERE id >> 37 = (SELECT id FROM _promkeep.metric WHERE name = 'other')`, day.Add(2*time.Hour).UnixMilli())
		require.NoError(t, err)
		for _, stage := range []string{"in recent", "merged"} {
			log.Reset()
			before := testutil.ToFloat64(db.metrics.corruptRows)
			err := query("other", 1)
			require.ErrorContains(t, err, "bundle of series from", stage)
			require.ErrorContains(t, err, "it belongs to the metric other", stage)
			require.ErrorContains(t, err, fmt.Sprintf("%d to %d ms", day.Add(2*time.Hour).UnixMilli(), day.Add(2*time.Hour).UnixMilli()+1000), stage)
			require.Equal(t, before+1, testutil.ToFloat64(db.metrics.corruptRows), stage)
			require.Contains(t, log.String(), "bundle of series from", stage)
			require.Contains(t, log.String(), "metric=other from="+day.Add(2*time.Hour).Format("2006-01-02T15:04:05.000Z"), stage)
			require.NoError(t, query("m", 0), stage)
			require.NoError(t, db.Maintain(ctx))
		}
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
	})
}
