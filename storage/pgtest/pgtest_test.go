package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m, Fill: fill}) }

// fill makes a table, a hypertable where there can be one with a row that no other call makes.
func fill(ctx context.Context, db *pgtest.DB) error {
	conn, err := pgx.Connect(ctx, db.URI)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TABLE filled (at timestamptz NOT NULL, template text NOT NULL)")
	if err == nil && db.HasTimescaleDB {
		_, err = conn.Exec(ctx, "SELECT create_hypertable('filled', 'at')")
	}
	if err == nil {
		_, err = conn.Exec(ctx, "INSERT INTO filled VALUES (now(), gen_random_uuid())")
	}
	return err
}

// TestDatabasesAreCopiesOfOneThatIsFilledOnce: each test has a copy of its own, and none where it wants none.
func TestDatabasesAreCopiesOfOneThatIsFilledOnce(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, db *pgtest.DB) {
		ctx := t.Context()
		var opts []pgtest.Option
		switch {
		case db.ApacheOnly:
			opts = append(opts, pgtest.WithApacheTimescaleDB)
		case db.HasTimescaleDB:
			opts = append(opts, pgtest.WithTimescaleDB)
		}
		rows := func(db *pgtest.DB) (templates []string) {
			rows, err := db.Pool(t).Query(ctx, "SELECT template FROM filled ORDER BY at")
			require.NoError(t, err)
			templates, err = pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return templates
		}
		_, err := db.Pool(t).Exec(ctx, "INSERT INTO filled VALUES (now() + interval '30 days', 'mine')")
		require.NoError(t, err)
		mine := rows(db)
		require.Len(t, mine, 2)
		require.Equal(t, "mine", mine[1])
		if db.Major == pgtest.New(t, opts...).Major { // New's are on the default server
			require.Equal(t, mine[:1], rows(pgtest.New(t, opts...)))
		}
		for _, empty := range []*pgtest.DB{pgtest.New(t, append(opts, pgtest.Empty)...), db.Server.NewDB(t, opts...)} {
			_, err := empty.Pool(t).Exec(ctx, "TABLE filled")
			require.ErrorContains(t, err, "does not exist")
		}
	}, pgtest.AllEditions)
}

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
	}, pgtest.AllEditions, pgtest.Empty)
}
