package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

func TestRunGivesEachEditionAnEmptyDatabaseOfItsOwn(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, db *pgtest.DB) {
		ctx := t.Context()
		conn, err := pgx.Connect(ctx, db.URI)
		require.NoError(t, err)
		defer conn.Close(ctx)

		var name, version string
		var super, timescale bool
		require.NoError(t, conn.QueryRow(ctx, `SELECT current_database(), current_setting('server_version_num'),
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
			EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')`).Scan(&name, &version, &super, &timescale))
		require.Equal(t, db.Name, name)
		require.False(t, super, "tests must run with the rights promkeep has in production")
		require.Equal(t, db.HasTimescaleDB, timescale)

		_, err = conn.Exec(ctx, "CREATE TABLE t (at timestamptz NOT NULL)")
		require.NoError(t, err)
		if db.HasTimescaleDB {
			_, err = conn.Exec(ctx, "SELECT create_hypertable('t', 'at')")
			require.NoError(t, err)
			_, err = conn.Exec(ctx, "ALTER TABLE t SET (timescaledb.compress)")
			if db.ApacheOnly {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
			}
		}
	}, pgtest.AllEditions)
}
