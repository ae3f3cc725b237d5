package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// migrateTo applies the migrations up to a version, as a promkeep of that time did.
func migrateTo(t testing.TB, pool *pgxpool.Pool, version int) {
	t.Helper()
	ctx := context.Background()
	_, err := pool.Exec(ctx, schema.MigrationTable)
	require.NoError(t, err)
	for v := 1; v <= version; v++ {
		files, err := filepath.Glob(fmt.Sprintf("../schema/migrations/%03d_*.sql", v))
		require.NoError(t, err)
		require.Len(t, files, 1)
		sql, err := os.ReadFile(files[0])
		require.NoError(t, err)
		_, err = pool.Exec(ctx, string(sql))
		require.NoError(t, err, files[0])
		_, err = pool.Exec(ctx, schema.MigrationDone, v, filepath.Base(files[0]))
		require.NoError(t, err)
	}
}

// TestCatalogueOfBeforeLabelSets: a database of before migration 9 keeps its series and their IDs, ended ones too, and series that
// come to them share the label sets of those that were there.
func TestCatalogueOfBeforeLabelSets(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		pool := pg.Pool(t)
		migrateTo(t, pool, 7)
		hour := day.Unix() / 3600
		for _, sql := range []string{
			`CREATE VIEW mine AS SELECT series_id, labels FROM promkeep.series`,
			`INSERT INTO _promkeep.tenant (name) VALUES ('default'), ('other')`,
			`INSERT INTO _promkeep.metric (tenant_id, name) VALUES (1, 'a'), (1, 'b'), (2, 'a')`,
			`INSERT INTO _promkeep.label (name, value) VALUES ('i', '1'), ('job', 'test'), ('i', '2')`,
			fmt.Sprintf(`INSERT INTO _promkeep.series (id, hash, started, ended, labels)
				SELECT metric << 37 | nextval('_promkeep.series_seq'), gen_random_uuid(), %d, ended, labels
				FROM (VALUES (1::int8, NULL::int4, '{1,2}'::int4[]), (2, NULL, '{1,2}'), (1, %d, '{3,2}'), (3, NULL, '{1,2}'), (2, %[2]d, '{}')) AS s (metric, ended, labels)`, hour, hour),
		} {
			_, err := pool.Exec(ctx, sql)
			require.NoError(t, err, sql)
		}
		// One sample of each of the series is in the log.
		var w payloadWriter
		w.reset()
		for i, id := range []uint64{1<<37 | 1, 2<<37 | 2, 3<<37 | 4} {
			w.float(id, day.UnixMilli()+int64(i), 0, float64(i))
		}
		var segment int32
		require.NoError(t, pool.QueryRow(ctx, schema.SegmentOpen, [16]byte{1}, 1).Scan(&segment))
		_, err := pool.Exec(ctx, schema.LogAppend, segment, int64(0), w.finish())
		require.NoError(t, err)

		c := &clock{day.Add(24 * time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		at := day.UnixMilli()
		a1, b1 := `{__name__="a", i="1", job="test"}`, `{__name__="b", i="1", job="test"}`
		check := func() {
			t.Helper()
			require.Equal(t, map[string][]sample{a1: {{at, 0}}, b1: {{at + 1, 1}}}, read(t, db, at, at+10, eq("job", "test")))
			require.Equal(t, map[string][]sample{a1: {{at + 2, 2}}}, readAs(t, WithTenant(ctx, "other"), db, at, at+10, eq("i", "1")))
			require.Equal(t, []string{"1", "2"}, labelValues(t, db, DefaultTenant, 0, at+10, 0, "i"))
		}
		check()
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Close())
		db = open(t, cfg)
		check()
		var labels string
		require.NoError(t, pool.QueryRow(ctx, "SELECT string_agg(series_id || ' ' || labels::text, ', ' ORDER BY series_id) FROM mine").Scan(&labels))
		require.Equal(t, fmt.Sprintf(`%d {"i": "1", "job": "test"}, %d {"i": "2", "job": "test"}, %d {"i": "1", "job": "test"}, %d {}, %d {"i": "1", "job": "test"}`,
			1<<37|1, 1<<37|3, 2<<37|2, 2<<37|5, 3<<37|4), labels)

		// One that ended comes back under its ID; new ones take label sets that are there.
		sets := countRows(t, pg, "_promkeep.label_set")
		write(t, db, lset("a", 2), sample{at + 3, 3})
		write(t, db, lset("c", 1), sample{at + 3, 3})
		write(t, db, lset("b", 2), sample{at + 3, 3})
		require.Equal(t, sets, countRows(t, pg, "_promkeep.label_set"))
		require.Equal(t, 1, countRows(t, pg, fmt.Sprintf("_promkeep.series WHERE id = %d AND ended IS NULL", 1<<37|3)))
		require.Equal(t, 7, countRows(t, pg, "_promkeep.series"))
		require.Equal(t, 3, countRows(t, pg, "promkeep.find_series(NULL, '{\"i\": \"1\"}')"))
	}, pgtest.Empty)
}
