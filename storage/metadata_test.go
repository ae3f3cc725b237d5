package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// announce commits metadata as a request of its own.
func announce(db *DB, tenant string, entries ...string) error {
	b, err := db.NewBatch(context.Background(), tenant)
	if err != nil {
		return err
	}
	defer b.Release()
	for i := 0; i < len(entries); i += 2 {
		b.Metadata(entries[i], metadata.Metadata{Type: "counter", Help: entries[i+1], Unit: "seconds"})
	}
	return b.Commit(context.Background())
}

func knownMetadata(t *testing.T, db *DB, tenant, metric string, limit, perMetric int) map[string][]string {
	t.Helper()
	found, err := db.MetricMetadata(WithTenant(context.Background(), tenant), metric, limit, perMetric)
	require.NoError(t, err)
	out := map[string][]string{}
	for family, list := range found {
		for _, m := range list {
			require.Equal(t, "counter seconds", string(m.Type)+" "+m.Unit)
			out[family] = append(out[family], m.Help)
		}
	}
	return out
}

// TestMetadataIsKeptPerTenantAndFamily: what was announced is there after the ack and after a restart, for its tenant alone,
// each different entry once, the youngest first, within the limits asked for.
func TestMetadataIsKeptPerTenantAndFamily(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		require.NoError(t, announce(db, "", "b", "first", "a", "help", "b", "first", "c", strings.Repeat("long ", 800)))
		require.NoError(t, announce(db, "other", "a", "of the other"))
		c.now = c.now.Add(24 * time.Hour)
		require.NoError(t, announce(db, "", "b", "second"))
		for _, stage := range []string{"announced", "restarted"} {
			if stage == "restarted" {
				require.NoError(t, db.Close())
				db = open(t, cfg)
			}
			require.Equal(t, map[string][]string{"a": {"help"}, "b": {"second", "first"}, "c": {strings.Repeat("long ", 800)}},
				knownMetadata(t, db, DefaultTenant, "", -1, -1), stage)
			require.Equal(t, map[string][]string{"a": {"help"}, "b": {"second"}}, knownMetadata(t, db, DefaultTenant, "", 2, 1), stage)
			require.Equal(t, map[string][]string{"b": {"second", "first"}}, knownMetadata(t, db, DefaultTenant, "b", -1, -1), stage)
			require.Equal(t, map[string][]string{"a": {"of the other"}}, knownMetadata(t, db, "other", "", -1, -1), stage)
			require.Empty(t, knownMetadata(t, db, "nobody", "", -1, -1), stage)
			require.Empty(t, knownMetadata(t, db, DefaultTenant, "x\x00", -1, -1), stage)
		}
		// What is announced again, also to a process that does not remember it, is not written again on the same day.
		before := rowVersions(t, pg)
		require.NoError(t, announce(db, "", "b", "second"))
		require.NoError(t, announce(db, "", "b", "second"))
		require.Equal(t, before, rowVersions(t, pg))
		require.NoError(t, announce(db, "", "b", "first"))
		require.Equal(t, []string{"first", "second"}, sortedCopy(knownMetadata(t, db, DefaultTenant, "b", -1, -1)["b"]))
		require.NotEqual(t, before, rowVersions(t, pg), "announced on another day")
	})
}

func rowVersions(t *testing.T, pg *pgtest.DB) (out string) {
	t.Helper()
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(),
		"SELECT string_agg(xmin::text || ctid::text, ',' ORDER BY ctid) FROM _promkeep.metadata").Scan(&out))
	return out
}

// TestMetadataIsBounded: a family keeps few different entries, and what nobody announces any more goes with the retention.
func TestMetadataIsBounded(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day}
	cfg := testConfig(t, pg, c)
	cfg.Retention = 10 * 24 * time.Hour
	db := open(t, cfg)
	require.NoError(t, announce(db, "", "old", "nobody announces it again"))
	for i := range 3 * maxMetadataPerFamily {
		require.NoError(t, announce(db, "", "many", fmt.Sprint(i)))
	}
	c.now = day.Add(24 * time.Hour)
	require.NoError(t, announce(db, "", "many", "last"))
	require.NoError(t, announce(db, "", "a name longer than a label value "+strings.Repeat("x", 2048), "left out"))
	got := knownMetadata(t, db, DefaultTenant, "", -1, -1)
	require.Len(t, got, 2)
	require.Len(t, got["many"], maxMetadataPerFamily+1)
	require.Equal(t, "last", got["many"][0])
	c.now = day.Add(12 * 24 * time.Hour)
	require.NoError(t, announce(db, "", "new", "one"))
	require.Equal(t, map[string][]string{"new": {"one"}, "many": {"last"}}, knownMetadata(t, db, DefaultTenant, "", -1, -1))
}

// TestMetadataWithSamples comes beside samples, is written in the background, and is no reason to refuse them.
func TestMetadataWithSamples(t *testing.T) {
	pg := pgtest.New(t)
	cfg := testConfig(t, pg, &clock{day.Add(time.Hour)})
	db := open(t, cfg)
	put := func(help string) {
		b, err := db.NewBatch(context.Background(), "")
		require.NoError(t, err)
		defer b.Release()
		for i := range 100 {
			l := lset("m", i)
			if key := keyOf(l); !b.Known(key) {
				b.New(key, l)
			}
			b.Float(day.UnixMilli(), 0, 1)
			b.Metadata("m", metadata.Metadata{Type: "counter", Help: help, Unit: "seconds"})
		}
		require.NoError(t, b.Commit(context.Background()))
	}
	put("h")
	db.metadata.idle.Wait()
	require.Equal(t, map[string][]string{"m": {"h"}}, knownMetadata(t, db, DefaultTenant, "", -1, -1))
	b, err := db.NewBatch(context.Background(), "")
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b.Metadata("m", metadata.Metadata{Type: "counter", Help: "h", Unit: "seconds"})
	}))
	require.Empty(t, b.announced, "it is known to be stored")
	b.Release()
	// Metadata that cannot be written is a fault of nothing but a request of metadata alone.
	_, err = pg.Pool(t).Exec(context.Background(), "ALTER TABLE _promkeep.metadata ADD CONSTRAINT none CHECK (help <> 'bad')")
	require.NoError(t, err)
	put("bad")
	require.ErrorIs(t, announce(db, "", "m", "bad"), ErrUnavailable)
	db.metadata.idle.Wait()
	require.Equal(t, map[string][]string{"m": {"h"}}, knownMetadata(t, db, DefaultTenant, "", -1, -1))
	require.NoError(t, db.Close())
	db = open(t, cfg)
	require.Len(t, read(t, db, 0, day.Add(time.Hour).UnixMilli(), eq("__name__", "m")), 100)
}

func sortedCopy(in []string) []string {
	out := append([]string(nil), in...)
	slices.Sort(out)
	return out
}

// TestLaw4MetadataThatWaitsIsBounded: while the database does not take metadata, what waits is bounded in bytes, what comes above is
// refused for a passing reason, and all is well once the database goes on.
func TestLaw4MetadataThatWaitsIsBounded(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
	tx, err := pg.Pool(t).Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, "LOCK TABLE _promkeep.metadata IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	// waiters is how many requests wait for the next round of writing; -1 until the first round is under way.
	waiters := func() int {
		db.metadata.mu.Lock()
		defer db.metadata.mu.Unlock()
		if !db.metadata.running {
			return -1
		}
		return len(db.metadata.waiters)
	}
	first := make(chan error, 1)
	go func() { first <- announce(db, "", "first", "x") }()
	require.Eventually(t, func() bool { return waiters() == 0 }, time.Minute, time.Millisecond)
	const requests = 63
	results := make(chan error, requests)
	help := strings.Repeat("x", 8<<10)
	for i := range requests { // 32 MiB
		go func() {
			var entries []string
			for k := range 64 {
				entries = append(entries, fmt.Sprintf("m_%d_%d", i, k), help)
			}
			results <- announce(db, "", entries...)
		}()
	}
	// Those that are refused answer at once, the others wait.
	require.Eventually(t, func() bool { return len(results)+waiters() == requests }, time.Minute, time.Millisecond)
	refused := len(results)
	for range refused {
		var overload interface{ RetryAfter() time.Duration }
		require.ErrorAs(t, <-results, &overload)
	}
	require.Greater(t, refused, 16)
	require.Less(t, refused, requests)
	db.metadata.mu.Lock()
	waiting := db.metadata.bytes
	db.metadata.mu.Unlock()
	require.LessOrEqual(t, waiting, maxMetadataBytes+64*len(help)+64*64)
	require.NoError(t, tx.Rollback(ctx))
	require.NoError(t, <-first)
	for range requests - refused {
		require.NoError(t, <-results)
	}
	require.NoError(t, announce(db, "", "again", help))
	require.Len(t, knownMetadata(t, db, "", "again", 10, 10), 1)
}
