package promql

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// testEngine has the settings of upstream's own run of its corpus, with every feature on.
func testEngine(t testing.TB) *Engine {
	e := NewEngine(EngineOptions{
		Timeout:    100 * time.Second,
		MaxSamples: promqltest.DefaultMaxSamplesPerQuery,
		Features:   Features{Parser: promqltest.TestParserOpts, DelayedNameRemoval: true, StartTimestamps: true},
	})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// TestUpstreamCorpus runs all of upstream's PromQL tests, with the samples at each stage of their way.
func TestUpstreamCorpus(t *testing.T) {
	t.Parallel()
	for _, to := range []stage{spread, merged, flushed, inHead} { // what takes longest begins first
		t.Run(to.String(), func(t *testing.T) {
			t.Parallel()
			promqltest.RunBuiltinTestsWithStorage(t, testEngine(t), storeOfEachFile(to))
		})
	}
}

// storeOfEachFile gives what a file of the corpus loads to a store of its own, or all that was loaded before would be read and merged again and again: it
// is of the same days.
func storeOfEachFile(to stage) func(testing.TB) storage.Storage {
	var (
		of testing.TB
		s  *store
	)
	return func(t testing.TB) storage.Storage {
		if of != t {
			of, s = t, openStore(t, pgtest.New(t))
		}
		return s.fresh(to)
	}
}

func pgtestExec(ctx context.Context, pg *pgtest.DB, sql string) error {
	conn, err := pgx.Connect(ctx, pg.URI)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
