package storage

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestConnectionsForQueriesAreReady: the first query of a connection finds its statements there.
func TestConnectionsForQueriesAreReady(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.MaxConns = backgroundConns + 1 // one for queries
		db := open(t, cfg)
		for i, name := range []string{"a", "b", "c"} {
			for k := range 3 {
				write(t, db, labels.FromStrings("__name__", name, "pod", string(rune('x'+k))), sample{day.UnixMilli(), float64(i)})
			}
		}
		require.NoError(t, db.Flush(t.Context()))
		require.NoError(t, db.Close())
		c.now = day.Add(72 * time.Hour)
		db = open(t, cfg)
		prepared := func() (all []string) {
			require.NoError(t, db.reads.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
				rows, err := conn.Query(t.Context(), "SELECT statement FROM pg_prepared_statements", pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err)
				all, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			}))
			slices.Sort(all)
			return all
		}
		before := prepared()
		require.NotEmpty(t, before)
		for _, ms := range [][]*labels.Matcher{
			{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")},
			{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|c")},
			{labels.MustNewMatcher(labels.MatchEqual, "__name__", "b"), labels.MustNewMatcher(labels.MatchEqual, "pod", "x")},
			{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|c"), labels.MustNewMatcher(labels.MatchEqual, "pod", "x")},
		} {
			require.NotEmpty(t, read(t, db, day.UnixMilli(), day.UnixMilli()+1000, ms...))
		}
		require.Equal(t, before, prepared())
	})
}
