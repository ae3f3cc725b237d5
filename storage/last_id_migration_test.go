package storage

import (
	"cmp"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestStoreOfBeforeLastID: a filled database of before migration 14, with days in the columnstore where there is one, answers as before and
// goes on. It is made from one of today.
func TestStoreOfBeforeLastID(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		pool := pg.Pool(t)
		c := &clock{day.Add(20 * time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.CacheWindow = time.Minute
		db := open(t, cfg)
		want := map[string][]sample{}
		add := func(from, to int) {
			for i := range 300 {
				l := lset("m", i)
				var all []sample
				for k := from; k < to; k++ {
					all = append(all, sample{day.Add(time.Duration(k) * time.Minute).UnixMilli(), float64((i*k*7919)%1000003) / 7})
				}
				write(t, db, l, all...)
				want[l.String()] = append(want[l.String()], all...)
			}
			require.NoError(t, db.Flush(ctx))
		}
		settle := func() {
			for range 2 {
				c.now = c.now.Add(3 * time.Hour)
				makePartsOld(t, pg)
				require.NoError(t, db.Maintain(ctx))
			}
		}
		check := func() {
			t.Helper()
			require.Equal(t, want, read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("__name__", "m")))
			one := lset("m", 200)
			require.Equal(t, map[string][]sample{one.String(): want[one.String()]}, read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("i", "200")))
			var n int
			require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM promkeep.samples('m', '{\"i\": \"200\"}', $1, $2)", day, c.now).Scan(&n))
			require.Len(t, want[one.String()], n)
		}
		add(0, 1000)
		c.now = day.Add(30 * time.Hour)
		settle() // a closed day, in the columnstore where there is one
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		add(1450, 1700)
		settle() // the next, open
		add(1700, 1900)
		check()
		require.NoError(t, db.Close())

		exec := func(statements ...string) {
			t.Helper()
			for _, sql := range statements {
				_, err := pool.Exec(ctx, sql)
				require.NoError(t, err, sql)
			}
		}
		exec(
			"ALTER TABLE _promkeep.recent ADD COLUMN span int8 NOT NULL DEFAULT 0",
			"UPDATE _promkeep.recent SET span = last_id - series_id",
			"ALTER TABLE _promkeep.recent DROP COLUMN last_id",
			"CREATE INDEX recent_series ON _promkeep.recent (series_id, (series_id + span))",
		)
		var columnstore []string
		var layout string
		require.NoError(t, pool.QueryRow(ctx, schema.GetSetting, "layout").Scan(&layout))
		if layout == schema.LayoutTimescaleDB {
			rows, err := pool.Query(ctx, "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks WHERE hypertable_name = 'chunk' AND is_compressed")
			require.NoError(t, err)
			columnstore, err = pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.NotEmpty(t, columnstore)
			for _, k := range columnstore {
				_, err := pool.Exec(ctx, "SELECT decompress_chunk($1::regclass)", k)
				require.NoError(t, err)
			}
			exec("ALTER TABLE _promkeep.chunk SET (timescaledb.compress = false)")
		}
		exec(
			"ALTER TABLE _promkeep.chunk ADD COLUMN span int8 NOT NULL DEFAULT 0",
			"UPDATE _promkeep.chunk SET span = last_id - series_id",
			"DROP INDEX _promkeep.chunk_series",
			"ALTER TABLE _promkeep.chunk DROP COLUMN last_id",
			"CREATE INDEX chunk_series ON _promkeep.chunk (series_id, (series_id + span))",
		)
		if layout == schema.LayoutTimescaleDB {
			exec("ALTER TABLE _promkeep.chunk SET (timescaledb.compress, timescaledb.compress_segmentby = '', timescaledb.compress_orderby = 'series_id, start')")
			for _, k := range columnstore {
				_, err := pool.Exec(ctx, "SELECT compress_chunk($1::regclass)", k)
				require.NoError(t, err)
			}
		}

		migration, err := os.ReadFile("../schema/migrations/014_last_id.sql")
		require.NoError(t, err)
		exec(string(migration))
		db = open(t, cfg)
		check()
		add(1000, 1100) // late, into the closed day
		add(1900, 2000)
		for k := range want {
			slices.SortFunc(want[k], func(a, b sample) int { return cmp.Compare(a.t, b.t) })
		}
		check()
		c.now = day.Add(60 * time.Hour)
		settle()
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		check()
	})
}
