package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestLateSamplesInTheColumnstore: days past are compressed; late samples go into them, are read, and are compressed in their turn.
func TestLateSamplesInTheColumnstore(t *testing.T) {
	pg := pgtest.New(t, pgtest.WithTimescaleDB)
	ctx := context.Background()
	c := &clock{day.Add(20 * time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.CacheWindow = time.Minute
	db := open(t, cfg)
	want := map[string][]sample{}
	for i := range 200 {
		var all []sample
		for k := range 1000 {
			all = append(all, sample{day.Add(time.Duration(k) * time.Minute).UnixMilli(), float64((i*k*7919)%1000003) / 7})
		}
		write(t, db, lset("m", i), all...)
		want[lset("m", i).String()] = all
	}
	state := func() (compressed, partial int) {
		require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT count(*) FILTER (WHERE k.status & 1 <> 0), count(*) FILTER (WHERE k.status & 8 <> 0)
			FROM _timescaledb_catalog.chunk AS k JOIN timescaledb_information.chunks AS c ON c.chunk_schema = k.schema_name AND c.chunk_name = k.table_name
			WHERE c.hypertable_name = 'chunk' AND c.range_start_integer = $1`, day.UnixMilli()).Scan(&compressed, &partial))
		return compressed, partial
	}
	settle := func() {
		require.NoError(t, db.Flush(ctx))
		for range 2 {
			c.now = c.now.Add(3 * time.Hour)
			makePartsOld(t, pg)
			require.NoError(t, db.Maintain(ctx))
		}
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
	}
	check := func() {
		t.Helper()
		require.Equal(t, want, read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("__name__", "m")))
	}
	c.now = day.Add(30 * time.Hour)
	settle()
	compressed, partial := state()
	require.Equal(t, []int{1, 0}, []int{compressed, partial})
	check()
	var rows, batches int
	var table string
	require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT count(*) FROM _promkeep.chunk`).Scan(&rows))
	require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT format('%I.%I', k.schema_name, k.table_name) FROM _timescaledb_catalog.chunk AS k
		JOIN _timescaledb_catalog.chunk AS u ON u.compressed_chunk_id = k.id`).Scan(&table))
	require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&batches))
	require.Greater(t, rows, 20)
	require.Greater(t, 5*batches, rows, "a batch is a few bundles, so that one series is not read with a thousand others")

	for i := range 50 {
		late := sample{day.Add(17*time.Hour + time.Duration(i)*time.Second).UnixMilli(), float64(i)}
		write(t, db, lset("m", i), late)
		want[lset("m", i).String()] = append(want[lset("m", i).String()], late)
	}
	check()
	settle()
	check()
	compressed, partial = state()
	require.Equal(t, []int{1, 0}, []int{compressed, partial}, "what came late is compressed again")
}
