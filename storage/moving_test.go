package storage

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestLaw2AReaderThatIsHeldUpMissesNothing holds a read up while PostgreSQL plans it, moves its rows to a part that did not
// exist when it began, and lets it go on.
func TestLaw2AReaderThatIsHeldUpMissesNothing(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		db := open(t, testConfig(t, pg, c))
		put := func(at time.Time) {
			write(t, db, lset("m", 1), sample{at.UnixMilli(), 1})
			require.NoError(t, db.Flush(ctx))
		}
		put(day.Add(9 * time.Hour))
		c.now = day.Add(30 * time.Hour)
		for range 2 {
			require.NoError(t, db.Maintain(ctx))
			makePartsOld(t, pg)
		}
		require.NoError(t, db.Maintain(ctx))
		put(c.now)
		db.head.Evict(math.MaxInt64 - 1)

		// The planner needs a lock on each partition that the query may read.
		pool := pg.Pool(t)
		var child string
		require.NoError(t, pool.QueryRow(ctx, "SELECT tableoid::regclass::text FROM _promkeep.chunk LIMIT 1").Scan(&child))
		holder, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer holder.Rollback(ctx)
		_, err = holder.Exec(ctx, "LOCK TABLE "+child+" IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		got := make(chan map[string][]sample, 1)
		go func() {
			defer close(got) // when reading fails, too
			got <- read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))
		}()
		require.Eventually(t, func() bool {
			var waiting int
			require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass", child).Scan(&waiting))
			return waiting > 0
		}, time.Minute, 5*time.Millisecond)
		// The rows move while the reader waits; what they left is dropped only when it is done.
		later := c.now.Add(3 * time.Hour)
		moved := make(chan error, 1)
		go func() {
			if err := db.chunks.Seal(ctx, db.log.Epoch(), later); err != nil {
				moved <- err
				return
			}
			db.flushMu.Lock()
			defer db.flushMu.Unlock()
			moved <- db.merge(ctx)
		}()
		require.Eventually(t, func() bool {
			var left int
			require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM _promkeep.part WHERE level = 0 AND merged_upto < 9223372036854775807").Scan(&left))
			return left == 0
		}, time.Minute, 5*time.Millisecond, "the rows have moved")
		require.NoError(t, holder.Rollback(ctx))
		require.Equal(t, map[string][]sample{lset("m", 1).String(): {{day.Add(9 * time.Hour).UnixMilli(), 1}, {c.now.UnixMilli(), 1}}}, <-got)
		require.NoError(t, <-moved)
	})
}
