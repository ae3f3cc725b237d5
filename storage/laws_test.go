package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
	"github.com/promkeep/promkeep/storage/samplelog"
)

// TestLaw1AnAckIsACommit: when Commit returns, another connection sees the samples in the log, and commits are synchronous.
func TestLaw1AnAckIsACommit(t *testing.T) {
	pg := pgtest.New(t)
	db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
	var mode string
	require.NoError(t, db.pool.QueryRow(context.Background(), "SHOW synchronous_commit").Scan(&mode))
	require.Equal(t, "on", mode)
	var size, before int
	count := func(n *int) {
		require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT coalesce(sum(length(payload)), 0) FROM "+wholeLog).Scan(n))
	}
	for i := range 10 {
		count(&before)
		write(t, db, lset("m", i), sample{day.UnixMilli(), 1})
		count(&size)
		require.Greater(t, size, before)
	}
}

// TestLaw2ExactlyOnceToTheReader asks all the time while the same samples are written again and again, flushed, merged,
// compressed and evicted: each answer has each sample once.
func TestLaw2ExactlyOnceToTheReader(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(13 * time.Hour)}
		db := open(t, testConfig(t, pg, c))
		const series, samples = 30, 200
		put := func() {
			for i := range series {
				var all []sample
				for k := range samples {
					all = append(all, sample{day.Add(9*time.Hour + time.Duration(k)*time.Minute).UnixMilli(), float64(k)})
				}
				write(t, db, lset("m", i), all...)
			}
		}
		put()
		done := make(chan struct{})
		var readers sync.WaitGroup
		finish := sync.OnceFunc(func() { close(done); readers.Wait() })
		defer finish() // a test that fails must not leave readers behind
		answers := 0
		readers.Add(1)
		go func() {
			defer readers.Done()
			for {
				select {
				case <-done:
					return
				default:
				}
				got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))
				if len(got) != series {
					t.Errorf("an answer has %d series, not %d", len(got), series)
					return
				}
				for l, s := range got {
					if len(s) != samples {
						t.Errorf("an answer has %d samples of %s, not %d", len(s), l, samples)
						return
					}
				}
				answers++
			}
		}()
		for range 4 {
			require.NoError(t, db.Flush(ctx))
			require.NoError(t, db.Maintain(ctx))
			put()
			require.NoError(t, db.Flush(ctx))
			makePartsOld(t, pg)
			_, err := pg.Pool(t).Exec(ctx, "UPDATE _promkeep.part SET window_start = window_start - 86400000, sealed = true")
			require.NoError(t, err)
			require.NoError(t, db.Maintain(ctx))
			db.head.Evict(math.MaxInt64 - 1)
			require.NoError(t, db.Maintain(ctx))
			put()
		}
		finish()
		require.NotZero(t, answers)
	})
}

// TestLaw3AnyOrder writes the samples of a year within the retention in random order, over many flushes and merges, and
// compares with a plain map.
func TestLaw3AnyOrder(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		c := &clock{day.Add(11 * time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 20 * 24 * time.Hour
		db := open(t, cfg)
		want := map[string]map[int64]float64{}
		for step := range 200 {
			l := lset("m", random.IntN(5))
			var all []sample
			for range 1 + random.IntN(30) {
				back := time.Duration(random.Int64N(int64(15 * 24 * time.Hour)))
				if random.IntN(3) > 0 {
					back = time.Duration(random.Int64N(int64(3 * time.Hour)))
				}
				// Whole minutes, so that timestamps collide.
				s := sample{c.now.Add(-back).Truncate(time.Minute).UnixMilli(), float64(step)}
				all = append(all, s)
				if want[l.String()] == nil {
					want[l.String()] = map[int64]float64{}
				}
				want[l.String()][s.t] = s.v
			}
			write(t, db, l, all...)
			switch random.IntN(12) {
			case 0, 1:
				require.NoError(t, db.Flush(ctx))
			case 2:
				c.now = c.now.Add(time.Duration(random.IntN(5)) * time.Hour)
				require.NoError(t, db.Maintain(ctx))
			case 3:
				makePartsOld(t, pg)
				require.NoError(t, db.Maintain(ctx))
			case 4:
				require.NoError(t, db.Close())
				db = open(t, cfg)
			}
		}
		got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))
		require.Len(t, got, len(want))
		for l, samples := range want {
			require.Len(t, got[l], len(samples), l)
			for _, s := range got[l] {
				require.Equal(t, samples[s.t], s.v, "%s at %d", l, s.t)
			}
		}
	})
}

// TestLaw4Bounded: past the bounds of queue and head a writer is told to come back, and churned series leave memory.
func TestLaw4Bounded(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.HeadBytes = 10 * 256 // memory comes in blocks of 20 samples
	db := open(t, cfg)
	var err error
	n := 0
	for ; n < 1000 && err == nil; n++ {
		err = tryWrite(db, "", lset("m", 0), sample{day.UnixMilli() + int64(n), 1})
	}
	require.ErrorIs(t, err, ErrOverloaded)
	require.Less(t, n, 205, "the bound of the head is 200 samples")
	var passing interface{ RetryAfter() time.Duration }
	require.True(t, errors.As(err, &passing))
	require.Positive(t, passing.RetryAfter())
	require.NoError(t, db.Flush(ctx))
	require.Zero(t, db.head.UnflushedBytes())

	// A new pod every minute for two days.
	for i := range 48 * 60 {
		c.now = day.Add(time.Duration(i) * time.Minute)
		write(t, db, lset("churn", i), sample{c.now.UnixMilli(), float64(i)})
		if i%10 == 9 {
			require.NoError(t, db.Flush(ctx))
			require.NoError(t, db.Maintain(ctx))
			require.Less(t, db.head.Len(), 4*60, "after %d pods", i)
		}
	}
	require.Less(t, db.head.CachedBytes(), int64(100_000))
	got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "churn"))
	require.Len(t, got, 48*60, "the series that left memory are still found")
	require.Len(t, read(t, db, day.Add(5*time.Hour).UnixMilli(), day.Add(6*time.Hour).UnixMilli()-1, eq("__name__", "churn")), 60)

	// One that comes back.
	write(t, db, lset("churn", 0), sample{c.now.UnixMilli(), -1})
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("i", "0"), eq("__name__", "churn")), 1)
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("i", "0"), eq("__name__", "churn"))[lset("churn", 0).String()], 2)
}

// TestLaw6AnyPostgreSQL: all runs as a plain owner of the database, on servers with TimescaleDB of either edition and without.
func TestLaw6AnyPostgreSQL(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		var super bool
		require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&super))
		require.False(t, super, "the tests run as a superuser")
		c := &clock{day.Add(13 * time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 10 * 24 * time.Hour
		db := open(t, cfg)
		for i := range 10 {
			write(t, db, lset("m", i), sample{day.Add(time.Hour).UnixMilli(), 1}, sample{day.Add(2 * time.Hour).UnixMilli(), 2})
		}
		require.NoError(t, db.Flush(ctx))
		for range 3 {
			c.now = c.now.Add(24 * time.Hour)
			makePartsOld(t, pg)
			require.NoError(t, db.Maintain(ctx))
		}
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		require.Equal(t, 10, countPacked(t, pg, "_promkeep.chunk"))
		require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")), 10)
		c.now = day.Add(12 * 24 * time.Hour)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, 10, countPacked(t, pg, "_promkeep.chunk"), "a clock that is far ahead of all samples is not believed")
		write(t, db, lset("m", 0), sample{c.now.UnixMilli(), 3})
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countRows(t, pg, "_promkeep.chunk"), "the day is past the retention")
		require.Equal(t, map[string][]sample{lset("m", 0).String(): {{c.now.UnixMilli(), 3}}}, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")))
	}, pgtest.AllEditions)
}

// TestLaw7FewRelations: the number of tables does not grow with metrics and tenants.
func TestLaw7FewRelations(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
		relations := func() (n int) {
			require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT count(*) FROM pg_class").Scan(&n))
			return n
		}
		write(t, db, lset("first", 0), sample{day.UnixMilli(), 1})
		require.NoError(t, db.Flush(ctx))
		before := relations()
		for i := range 200 {
			require.NoError(t, tryWrite(db, fmt.Sprintf("tenant%d", i%20), lset(fmt.Sprintf("metric%d", i), i), sample{day.UnixMilli(), 1}))
		}
		require.NoError(t, db.Flush(ctx))
		require.Equal(t, before, relations())
	})
}

// TestLaw8ManyAdaptersOneDatabase: the log is one ordered stream per adapter in numbered segments without gaps; a second
// adapter stands by until the first is gone, seals its segment and has all its samples; and one that was overtaken cannot
// move data any more.
func TestLaw8ManyAdaptersOneDatabase(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	first := open(t, cfg)
	for i := range 20 {
		write(t, first, lset("m", i), sample{day.UnixMilli(), float64(i)})
	}
	var gaps int
	require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT count(*) FROM (SELECT seq - lag(seq, 1, 0::int8) OVER (PARTITION BY segment ORDER BY seq) AS step
		FROM `+wholeLog+`) AS steps WHERE step <> 1`).Scan(&gaps))
	require.Zero(t, gaps)

	opened := make(chan *DB, 1)
	go func() {
		defer close(opened)
		db, err := Open(t.Context(), testConfig(t, pg, c)) // ends with the test, if that fails
		if err != nil {
			t.Error(err)
			return
		}
		opened <- db
	}()
	select {
	case <-opened:
		t.Fatal("two promkeeps serve one database")
	case <-time.After(1500 * time.Millisecond):
	}
	require.NoError(t, first.Close())
	second := <-opened
	require.NotNil(t, second)
	defer pgtest.Close(t, "the second", func() { second.Close() })
	require.Len(t, read(t, second, 0, c.now.UnixMilli(), eq("__name__", "m")), 20)
	var sealed, open int
	require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT count(*) FILTER (WHERE sealed), count(*) FILTER (WHERE NOT sealed) FROM _promkeep.log_segment").Scan(&sealed, &open))
	require.Equal(t, 1, sealed)
	require.Equal(t, 1, open)

	// The third takes over while the second has lost its session without knowing.
	_, err := pg.SuperPool(t).Exec(ctx, "UPDATE _promkeep.leader SET epoch = epoch + 1")
	require.NoError(t, err)
	write(t, second, lset("m", 1), sample{day.UnixMilli() + 1, 1})
	require.ErrorContains(t, second.Flush(ctx), "another promkeep leads")
	_, err = pg.SuperPool(t).Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
	require.NoError(t, err)
	select {
	case err := <-second.Fatal():
		require.ErrorIs(t, err, samplelog.ErrFenced)
	case <-time.After(time.Minute):
		t.Fatal("an overtaken promkeep goes on")
	}
}

// TestLaw9TenantsFromTheStart: the same labels of two tenants are two series.
func TestLaw9TenantsFromTheStart(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	for i, tenant := range []string{"", "a", "b"} {
		require.NoError(t, tryWrite(db, tenant, lset("m", 0), sample{day.UnixMilli(), float64(i)}))
	}
	require.NoError(t, db.Flush(context.Background()))
	for _, evicted := range []bool{false, true} {
		if evicted {
			db.head.Evict(math.MaxInt64 - 1)
		}
		for i, tenant := range []string{DefaultTenant, "a", "b"} {
			ctx := WithTenant(context.Background(), tenant)
			require.Equal(t, map[string][]sample{lset("m", 0).String(): {{day.UnixMilli(), float64(i)}}},
				readAs(t, ctx, db, 0, c.now.UnixMilli(), eq("__name__", "m")))
		}
		require.Empty(t, readAs(t, WithTenant(context.Background(), "none"), db, 0, c.now.UnixMilli(), eq("__name__", "m")))
	}
	var ids int
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT count(DISTINCT id >> 37) FROM _promkeep.series").Scan(&ids))
	require.Equal(t, 3, ids, "the metric in the high bits of an ID belongs to a tenant")
}

// TestRestartKeepsIDs: IDs are the catalogue's, and creating a series twice gives one.
func TestRestartKeepsIDs(t *testing.T) {
	pg := pgtest.New(t)
	cfg := testConfig(t, pg, &clock{day.Add(time.Hour)})
	ids := func(db *DB) map[string]uint64 {
		out := map[string]uint64{}
		for i := range 10 {
			write(t, db, lset("m", i), sample{day.UnixMilli(), 1})
			s, err := db.head.Tenant(1).Select(context.Background(), eq("i", fmt.Sprint(i)))
			require.NoError(t, err)
			require.Len(t, s, 1)
			out[s[0].Labels.String()] = s[0].ID
		}
		return out
	}
	db := open(t, cfg)
	before := ids(db)
	require.NoError(t, db.Close())
	require.Equal(t, before, ids(open(t, cfg)))
	require.Equal(t, 10, countRows(t, pg, "_promkeep.series"))
}

// TestRetriesWhileTheDatabaseIsAway: writes fail as passing, and go on after the server is back, with nothing lost.
func TestRetriesWhileTheDatabaseIsAway(t *testing.T) {
	server := pgtest.NewServer(t)
	pg := server.NewDB(t)
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	server.Stop(t)
	require.Eventually(t, func() bool {
		return errors.Is(tryWrite(db, "", lset("m", 1), sample{day.UnixMilli() + 1, 2}), ErrUnavailable)
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, []sample{{day.UnixMilli(), 1}}, read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()][:1],
		"what is in memory is served while the database is away")
	server.Start(t)
	require.Eventually(t, func() bool {
		return tryWrite(db, "", lset("m", 1), sample{day.UnixMilli() + 2, 3}) == nil
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, db.Flush(context.Background()))
	got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()]
	require.Equal(t, sample{day.UnixMilli(), 1}, got[0])
	require.Equal(t, sample{day.UnixMilli() + 2, 3}, got[len(got)-1])
}

// TestValuesAreKeptBitForBit through log, head, flush and merge.
func TestValuesAreKeptBitForBit(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day.Add(13 * time.Hour)}
	cfg := testConfig(t, pg, c)
	db := open(t, cfg)
	values := []float64{0, math.Copysign(0, -1), 1, -1, 0.1, math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64, math.MaxFloat64,
		math.Float64frombits(0x7ff0000000000002), math.Float64frombits(0x7ff8000000000001), math.Float64frombits(0xfff123456789abcd), 1e-300, 123456789.125}
	var all []sample
	for i, v := range values {
		all = append(all, sample{day.Add(time.Duration(i) * time.Second).UnixMilli(), v})
	}
	check := func(stage string) {
		t.Helper()
		got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 0).String()]
		require.Len(t, got, len(all), stage)
		for i := range got {
			require.Equal(t, math.Float64bits(all[i].v), math.Float64bits(got[i].v), "%s: value %d", stage, i)
		}
	}
	write(t, db, lset("m", 0), all...)
	check("head")
	require.NoError(t, db.Close())
	db = open(t, cfg)
	check("replayed")
	require.NoError(t, db.Flush(context.Background()))
	write(t, db, lset("m", 0), all[3])
	require.NoError(t, db.Flush(context.Background()))
	check("flushed")
	db.head.Evict(math.MaxInt64 - 1)
	check("evicted")
	require.NoError(t, db.Maintain(context.Background()))
	check("merged")
}

func TestNewerSchemaIsRefused(t *testing.T) {
	pg := pgtest.New(t)
	cfg := testConfig(t, pg, &clock{day})
	require.NoError(t, open(t, cfg).Close())
	_, err := pg.Pool(t).Exec(context.Background(), "INSERT INTO _promkeep_migration.applied VALUES (9999, 'from the future')")
	require.NoError(t, err)
	_, err = Open(context.Background(), cfg)
	require.ErrorContains(t, err, "newer than this promkeep")
	require.ErrorContains(t, err, "run the newer promkeep again")
}

func TestMissingRightsAreNamed(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	_, err := pg.SuperPool(t).Exec(ctx, "CREATE ROLE guest LOGIN; REVOKE ALL ON DATABASE "+pgx.Identifier{pg.Name}.Sanitize()+" FROM guest")
	require.NoError(t, err)
	t.Cleanup(func() { pg.SuperPool(t).Exec(ctx, "DROP ROLE guest") })
	cfg, err := parse(testConfig(t, pg, &clock{day}))
	require.NoError(t, err)
	cfg.ConnConfig.User = "guest"
	_, err = prepare(ctx, cfg, "auto", testConfig(t, pg, &clock{day}).Logger)
	require.ErrorContains(t, err, "GRANT CREATE ON DATABASE")
}

func TestAnUnreachableDatabaseIsWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, testConfig(t, &pgtest.DB{URI: "postgres://nobody:secret@127.0.0.1:1/none"}, &clock{day}))
	require.ErrorContains(t, err, "gave up reaching the database")
	require.NotContains(t, err.Error(), "secret")
}
