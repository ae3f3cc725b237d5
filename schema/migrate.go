package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// ErrNewer is returned when the database was migrated by a newer promkeep than this one.
var ErrNewer = errors.New("the database's schema is newer than this promkeep")

// Status says where a database stands.
type Status struct {
	Version     int    // last migration that was applied; 0 for an empty database
	Latest      int    // last migration this binary knows
	Layout      string // "plain" or "timescaledb": how the long-term store is laid out; "" before the first migration
	TimescaleDB Edition
	Server      string // version of the server, as in server_version

	// What would have to be converted, where the database has TimescaleDB and its long-term store is none of it; see Measure.
	PlainSamples, PlainRows, PlainBytes int64
}

type migration struct {
	version int
	name    string
	sql     string
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]migration, 0, len(names))
	for i, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("schema: migration %q is not number %d", name, i+1)
		}
		sql, err := migrationFiles.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{version: version, name: name, sql: string(sql)})
	}
	return out, nil
}

// Check reads where the database stands and changes nothing.
func Check(ctx context.Context, conn *pgx.Conn) (Status, error) {
	all, err := migrations()
	if err != nil {
		return Status{}, err
	}
	st := Status{Latest: len(all)}
	if err := conn.QueryRow(ctx, ServerVersion).Scan(&st.Server); err != nil {
		return st, explain(err)
	}
	if st.TimescaleDB, err = detectTimescaleDB(ctx, conn); err != nil {
		return st, err
	}
	var exists bool
	if err := conn.QueryRow(ctx, MigrationTableExists).Scan(&exists); err != nil {
		return st, explain(err)
	}
	if !exists {
		return st, nil
	}
	if err := conn.QueryRow(ctx, MigrationVersion).Scan(&st.Version); err != nil {
		return st, explain(err)
	}
	if st.Version > st.Latest {
		return st, fmt.Errorf("%w: it is at version %d, this binary knows %d; run the newer promkeep again, or restore a backup from before the upgrade",
			ErrNewer, st.Version, st.Latest)
	}
	if st.Version > 0 {
		if err := conn.QueryRow(ctx, GetSetting, "layout").Scan(&st.Layout); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return st, explain(err)
		}
	}
	return st, nil
}

// Migrate brings the database to the version of this binary, under an advisory lock so that of several that start at once
// one migrates and the others wait. Each migration is a transaction of its own.
func Migrate(ctx context.Context, conn *pgx.Conn, mode TimescaleDBMode, logger *slog.Logger) (Status, error) {
	all, err := migrations()
	if err != nil {
		return Status{}, err
	}
	if _, err := conn.Exec(ctx, MigrationLock); err != nil {
		return Status{}, explain(err)
	}
	defer conn.Exec(context.WithoutCancel(ctx), MigrationUnlock)

	st, err := Check(ctx, conn)
	if err != nil {
		return st, err
	}
	if st.Version == 0 {
		if _, err := conn.Exec(ctx, MigrationTable); err != nil {
			return st, explain(err)
		}
	}
	for _, m := range all[st.Version:] {
		logger.Info("migrating the database", "version", m.version, "migration", m.name)
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, MigrationDone, m.version, m.name)
			return err
		})
		if err != nil {
			return st, fmt.Errorf("migration %s: %w", m.name, explain(err))
		}
		st.Version = m.version
	}
	return st, ensureLayout(ctx, conn, mode, &st, logger)
}

// Measure adds to the status what would have to be converted. It reads the rows of the store, without the packed data.
func (st *Status) Measure(ctx context.Context, conn *pgx.Conn) error {
	if st.Layout != LayoutPlain || st.TimescaleDB == EditionNone {
		return nil
	}
	if err := conn.QueryRow(ctx, StoredSamples).Scan(&st.PlainSamples, &st.PlainRows); err != nil {
		return explain(err)
	}
	return conn.QueryRow(ctx, RelationsSize).Scan(&st.PlainBytes)
}

// explain adds what to do to errors that an operator can mend.
func explain(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case pgerrcode.InsufficientPrivilege:
		return fmt.Errorf("%w: promkeep's role must own the database or be allowed to create schemas in it: GRANT CREATE ON DATABASE … TO …, or ALTER DATABASE … OWNER TO …", err)
	default:
		return err
	}
}
